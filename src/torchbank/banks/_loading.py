"""Loading a bank's state: refuse what does not fit before anything changes, and move rows to another capacity."""

import copy
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchbank.banks._doors import METRICS
from torchbank.banks._replacement import Replacement
from torchbank.banks._view import BankView
from torchbank.errors import BankKeyError, BankTypeError, BankValueError
from torchbank.reads import copy_rows

if TYPE_CHECKING:
    from torchbank.banks._bank import Bank

PER_SLOT = ("embeddings", "steps", "generations")


def prepare(bank: "Bank", state_dict: dict[str, Any], prefix: str) -> None:
    """Check the entries of ``state_dict`` under ``prefix``, and fit them to the capacity of the bank in place.

    Raises:
        BankKeyError: The entries of the bank are missing, or belong to a bank with other fields.
        BankValueError: Dim, metric or shapes are another, or values do not survive the cast.
        BankTypeError: A column holds what the bank's dtype cannot.
    """
    own = bank.state_dict()
    given = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    _check_names(bank, own, given, prefix)
    _check_metric(bank, given["metric_code"])
    for name in _per_slot(bank):
        _check_column(name, own[name], given)
    if given["steps"].shape != own["steps"].shape:
        moved = _moved(bank, given)
        state_dict.update({prefix + name: value for name, value in moved.items()})
        given.update(moved)
    _check_cast(bank, given["embeddings"])


def fill(bank: "Bank", state_dict: dict[str, Any], prefix: str, names: tuple[str, ...]) -> None:
    """Copy the named columns where they lie, and put them into ``state_dict`` as loaded."""
    with torch.no_grad():
        for name in names:
            column = bank.get_buffer(name)
            if state_dict[prefix + name] is not column:
                copy_rows(column, state_dict[prefix + name])
            state_dict[prefix + name] = column


def _per_slot(bank: "Bank") -> list[str]:
    return [*PER_SLOT, *(f"field_{name}" for name in bank.schema.fields)]


def _check_names(bank: "Bank", own: dict[str, Any], given: dict[str, Any], prefix: str) -> None:
    missing = [prefix + name for name in own if name not in given]
    if missing:
        msg = (
            f"the state has no entries {', '.join(missing)} for a {type(bank).__name__}; it comes from a model "
            "without this bank or from a bank of another class or other fields. Build the same bank, or take the "
            "bank out of the model before loading"
        )
        raise BankKeyError(msg)
    unknown = [prefix + name for name in given if name not in own]
    if unknown:
        fields = ", ".join(bank.schema.fields) or "no fields"
        msg = (
            f"the state has entries {', '.join(unknown)} that this {type(bank).__name__} (with {fields}) does not "
            "know; build it with the fields and the class that were saved"
        )
        raise BankKeyError(msg)


def _check_metric(bank: "Bank", code: Tensor) -> None:
    if code.is_meta or int(code) == METRICS.index(bank.metric):
        return
    saved = METRICS[int(code)] if 0 <= int(code) < len(METRICS) else f"number {int(code)}"
    msg = f"the state was saved with metric {saved!r} and this bank has {bank.metric!r}; build it with the former"
    raise BankValueError(msg)


def _check_column(name: str, own: Tensor, given: dict[str, Any]) -> None:
    column, rows = given[name], len(given["steps"])
    if column.shape != (rows, *own.shape[1:]):
        msg = (
            f"{name} in the state has shape {tuple(column.shape)}; expected ({rows}, "
            f"{', '.join(map(str, own.shape[1:]))}); build the bank with the dim and field shapes that were saved"
        )
        raise BankValueError(msg)
    floats = column.is_floating_point() and own.is_floating_point()
    if column.dtype != own.dtype and not (floats or torch.can_cast(column.dtype, own.dtype)):
        msg = f"{name} in the state has dtype {column.dtype}, which {own.dtype} cannot hold; build the bank for it"
        raise BankTypeError(msg)


def _check_cast(bank: "Bank", embeddings: Tensor) -> None:
    if embeddings.dtype != bank.dtype and not embeddings.to(bank.dtype).isfinite().all():
        msg = f"embeddings in the state are too large for {bank.dtype}; build the bank with dtype={embeddings.dtype}"
        raise BankValueError(msg)


def _moved(bank: "Bank", given: dict[str, Any]) -> dict[str, Tensor]:
    """The entries that change when the rows move into the bank's capacity."""
    rule = _rule_with(bank.replacement, given)
    fields = {name: given[f"field_{name}"] for name in bank.schema.fields}
    stored = BankView(given["embeddings"], fields, given["steps"], given["generations"] > 0)
    before = rule.order(stored, given["total"])
    columns = {name: given[name] for name in _per_slot(bank)}
    empty = {name: column.new_zeros(bank.capacity, *column.shape[1:]) for name, column in columns.items()}
    none = BankView(
        empty["embeddings"],
        {name: empty[f"field_{name}"] for name in fields},
        empty["steps"],
        empty["generations"] > 0,
    )
    after = rule.resize(stored.rows(before), before, none, given["total"])
    # Of several rows for one slot the last stays.
    winner = torch.full((bank.capacity,), -1, device=after.device)
    winner.scatter_reduce_(
        0, after.clamp_min(0), torch.where(after >= 0, torch.arange(len(after), device=after.device), -1), "amax"
    )
    taken = winner >= 0
    for name, column in columns.items():
        # Columns that are offloaded lie on another device than the rest.
        empty[name][taken.to(column.device)] = column[before[winner[taken]].to(column.device)]
    warnings.warn(
        f"loading {len(before)} rows of a {type(bank).__name__} with capacity {len(stored.steps)} into capacity "
        f"{bank.capacity}: {int(taken.sum())} rows are kept",
        UserWarning,
        stacklevel=2,
    )
    return {**empty, **{f"replacement.{name}": value for name, value in rule.state_dict().items()}}


def _rule_with(replacement: Replacement, given: dict[str, Any]) -> Replacement:
    """A copy of the rule as it was in the bank that was saved."""
    rule = copy.deepcopy(replacement)
    state = {
        name.removeprefix("replacement."): value for name, value in given.items() if name.startswith("replacement.")
    }
    rule.load_state_dict(state)
    return rule
