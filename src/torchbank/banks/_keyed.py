"""One row for each integer key: the memory of NPID, PIRL and CRD."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torchbank.banks._bank import Bank
from torchbank.banks._replacement import Replacement
from torchbank.banks._schema import FieldDeclaration
from torchbank.banks._view import BankView
from torchbank.banks._writing import REFUSED
from torchbank.errors import BankTypeError, BankValueError
from torchbank.reads import take

Duplicates = Literal["error", "last", "mean"]


class Keyed(Replacement):
    """The row of the same key gives way, mixed into the new one by ``momentum``."""

    inputs = ("keys",)
    looks_at_rows = False

    def __init__(self, *, momentum: float, duplicates: Duplicates, normalize: bool) -> None:
        super().__init__()
        self.momentum = momentum
        self.once = duplicates == "error"
        self.normalize = normalize
        self.merges_duplicates = duplicates == "mean"

    def slots(self, rows: BankView, stored: BankView, total: Int64[Tensor, ""]) -> Int64[Tensor, " batch"]:  # noqa: ARG002
        """The keys themselves."""
        keys = rows.fields["keys"]
        good = torch.ops.torchbank.good_keys if torch.compiler.is_compiling() else good_keys
        return torch.where(good(keys, stored.steps.shape[0], self.once), keys, REFUSED)

    def merge(self, rows: BankView, slots: Int64[Tensor, " batch"], stored: BankView) -> Float[Tensor, "batch dim"]:
        """Means over equal keys, mixed with what the keys held."""
        if self.momentum == 0 and not self.merges_duplicates:
            return rows.embeddings
        mix = torch.ops.torchbank.mix if torch.compiler.is_compiling() else mixed
        return mix(
            rows.embeddings,
            slots,
            stored.embeddings,
            stored.valid,
            self.momentum,
            self.merges_duplicates,
            self.normalize,
        )

    def resize(
        self,
        rows: BankView,  # noqa: ARG002
        slots: Int64[Tensor, " rows"],
        empty: BankView,
        total: Int64[Tensor, ""],  # noqa: ARG002
    ) -> Int64[Tensor, " rows"]:
        """Every row stays at its key; keys beyond the capacity are dropped."""
        return torch.where(slots < empty.steps.shape[0], slots, -1)


class KeyedMemoryBank(Bank):
    """One row for each integer key in ``[0, capacity)``; the slot of a row is its key.

    The memory of [Wu et al. 2018, section 3.2](arXiv:1805.01978), where the key is the position of the image in
    the data set. Pushing a key again mixes: ``row <- normalize(momentum * row + (1 - momentum) * new)``,
    normalised under cosine only. The first visit stores the row as it is, and a mixture without direction keeps
    the new row. ``view()`` has every slot and says which are valid.

    Args:
        capacity: How many keys there are.
        dim: Length of an embedding.
        momentum: Share of the stored row in the new one, in [0, 1); 0 replaces it.
        duplicates: What a push does with rows of one key: ``"error"`` refuses, ``"last"`` stores the last of
            them, ``"mean"`` their mean (normalised under cosine) with the fields of the last.
        fields: What is stored beside each embedding: ``{"label": torch.int64}`` or, with a shape per row,
            ``{"box": (torch.float32, (4,))}``.
        metric: ``"cosine"`` (rows and queries are L2-normalised), ``"dot"`` or ``"euclidean"`` (``nearest`` only).
        dtype: Of the rows: ``torch.float32``, ``torch.bfloat16`` or ``torch.float16``. Fixed from here on.
        device: Where the bank lies; moves with ``.to(device)``.
        storage: Where its rows lie: ``"module"``, on the device; ``"host"``, in host memory, read block by block; or
            the path of a new file, for a bank larger than memory. See `Bank`.

    Raises:
        BankValueError: A size, metric, field name, ``momentum`` or ``duplicates`` is out of range.
        BankFileExistsError: The path of ``storage`` is taken.
        BankFileError: The file of ``storage`` cannot be created, or the disk has no space for it.
        BankTypeError: A size, dtype or field declaration is of the wrong type.

    Example:
        >>> import torch, torchbank as tb
        >>> bank = tb.KeyedMemoryBank(100, 2, momentum=0.5, metric="dot")
        >>> bank.push(torch.tensor([[1.0, 0.0]]), keys=torch.tensor([42])).tolist()
        [42]
        >>> _ = bank.push(torch.tensor([[0.0, 1.0]]), keys=torch.tensor([42]))
        >>> bank.gather(torch.tensor([42, 7])).embeddings
        tensor([[0.5000, 0.5000],
                [0.0000, 0.0000]])
    """

    def __init__(
        self,
        capacity: int,
        dim: int,
        *,
        momentum: float = 0.0,
        duplicates: Duplicates = "error",
        fields: Mapping[str, FieldDeclaration] | None = None,
        metric: str = "cosine",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        storage: str | Path = "module",
    ) -> None:
        if not 0 <= momentum < 1:
            msg = f"momentum is {momentum}; expected a number from 0 (replace the row) to less than 1"
            raise BankValueError(msg)
        if duplicates not in get_args(Duplicates):
            msg = f"duplicates is {duplicates!r}; expected one of {', '.join(map(repr, get_args(Duplicates)))}"
            raise BankValueError(msg)
        rule = Keyed(momentum=float(momentum), duplicates=duplicates, normalize=metric == "cosine")
        super().__init__(
            capacity, dim, fields=fields, metric=metric, dtype=dtype, device=device, storage=storage, replacement=rule
        )
        self.momentum = momentum
        self.duplicates = duplicates

    def options(self) -> dict[str, Any]:
        """``momentum`` and ``duplicates``."""
        return {"momentum": self.momentum, "duplicates": self.duplicates}

    # Keys are this bank's own keyword, spelt out where `Bank.push` has **fields.
    def push(  # pyrefly: ignore[bad-override]
        self,
        embeddings: Tensor,
        *,
        keys: Tensor,
        step: int | Tensor | None = None,
        check: bool = False,
        **fields: Tensor,
    ) -> Int64[Tensor, " batch"]:
        """Store a batch at its keys; see `Bank.push`.

        Args:
            embeddings: ``(batch, dim)`` of any floating dtype.
            keys: ``(batch,)`` integers in ``[0, capacity)``.
            step: The stamp of the rows; None counts the pushes from 0.
            check: On CUDA, raise for bad rows and keys instead of counting them in ``rejected``.
            **fields: Every declared field, ``(batch, *shape)``.

        Returns:
            ``(batch,)`` int64, the key of each row, -1 for one that was not written (under
            ``duplicates="last"`` all but the last of one key).

        Raises:
            BankValueError: A key is out of range or, under ``duplicates="error"``, given twice (counted in
                ``rejected`` on CUDA); and as for `Bank.push`.
            BankTypeError: The keys are not integers; and as for `Bank.push`.
            BankKeyError: A field is missing or unknown.
        """
        if not isinstance(keys, Tensor) or keys.is_floating_point() or keys.is_complex() or keys.dtype == torch.bool:
            given = keys.dtype if isinstance(keys, Tensor) else type(keys).__name__
            msg = f"keys is {given}; expected a tensor of integers, one for each row of embeddings"
            raise BankTypeError(msg)
        if keys.ndim != 1:
            msg = f"keys has shape {tuple(keys.shape)}; expected one axis, (batch,)"
            raise BankValueError(msg)
        return self._push(embeddings, {"keys": keys.to(torch.int64), **fields}, step=step, check=check)


def good_keys(keys: Int64[Tensor, " batch"], capacity: int, once: bool) -> Bool[Tensor, " batch"]:
    """Which keys exist and, with ``once``, are given once only.

    Raises:
        BankValueError: On the CPU, one is not; elsewhere it is marked.
    """
    inside = (keys >= 0) & (keys < capacity)
    ordered, order = torch.sort(keys, stable=True)
    equal = ordered[1:] == ordered[:-1]
    edge = equal.new_zeros(1)
    # A key is repeated if it equals the one before or after it.
    repeated = (torch.cat([edge, equal]) | torch.cat([equal, edge]))[: keys.shape[0]]
    single = torch.empty_like(inside).index_copy_(0, order, ~repeated)
    good = inside & single if once else inside
    if keys.is_cpu and not good.all():
        row = int(good.int().argmin())
        if not inside[row]:
            msg = f"keys[{row}] is {int(keys[row])}; expected 0 to {capacity - 1}, below the capacity of the bank"
            raise BankValueError(msg)
        msg = (
            f"keys[{row}] is {int(keys[row])}, which the batch holds more than once; drop one of its rows, or build "
            "the bank with duplicates='last' or 'mean'"
        )
        raise BankValueError(msg)
    return good


def mixed(
    embeddings: Float[Tensor, "batch dim"],
    slots: Int64[Tensor, " batch"],
    stored: Float[Tensor, "capacity dim"],
    seen: Bool[Tensor, " capacity"],
    momentum: float,
    average: bool,
    normalize: bool,
) -> Float[Tensor, "batch dim"]:
    """What is stored for each row of the batch: its mean over the batch, then its mixture with the stored row."""
    if average:
        embeddings = _mean_by_slot(embeddings, slots, normalize)
    if momentum == 0:
        return embeddings.clone()
    held = slots.clamp_min(0)
    before = take(stored, held, held.device).float()
    mixture = momentum * before + (1 - momentum) * embeddings.float()
    return torch.where(take(seen, held, held.device)[:, None], _directed(mixture, embeddings, normalize), embeddings)


def _mean_by_slot(
    embeddings: Float[Tensor, "batch dim"], slots: Int64[Tensor, " batch"], normalize: bool
) -> Float[Tensor, "batch dim"]:
    ordered, order = torch.sort(slots, stable=True)
    last = torch.searchsorted(ordered, ordered, right=True) - 1
    size = last - torch.searchsorted(ordered, ordered) + 1
    sums = torch.zeros(embeddings.shape, dtype=torch.float32, device=embeddings.device)
    values = embeddings[order].float()
    # Each call is deterministic on its own device only: on the CPU index_add_ goes row by row, on CUDA an
    # accumulating index_put_ sorts.
    if sums.is_cpu:
        sums.index_add_(0, last, values)
    else:
        sums.index_put_((last,), values, accumulate=True)
    newest = embeddings[order[last]]
    means = _directed(sums[last] / size[:, None], newest, normalize)
    # A key that is there once keeps its row to the bit.
    means = torch.where((size > 1)[:, None], means, newest)
    return torch.empty_like(embeddings).index_copy_(0, order, means)


def _directed(
    mixture: Float[Tensor, "batch dim"], newest: Float[Tensor, "batch dim"], normalize: bool
) -> Float[Tensor, "batch dim"]:
    """Mixtures in the dtype of the bank; if normalised, the newest row where the mixture has no direction."""
    if normalize:
        norms = torch.linalg.vector_norm(mixture, dim=1, keepdim=True)
        # Unit rows that cancel out leave the rounding of the row dtype behind.
        mixture = torch.where(norms > 4 * torch.finfo(newest.dtype).eps, mixture / norms, newest.float())
    return mixture.to(newest.dtype)


@torch.library.custom_op("torchbank::good_keys", mutates_args=())
def _good_keys_operator(keys: Tensor, capacity: int, once: bool) -> Tensor:
    return good_keys(keys, capacity, once)


@_good_keys_operator.register_fake
def _(keys: Tensor, capacity: int, once: bool) -> Tensor:  # noqa: ARG001
    return torch.empty_like(keys, dtype=torch.bool)


@torch.library.custom_op("torchbank::mix", mutates_args=())
def _mix_operator(
    embeddings: Tensor, slots: Tensor, stored: Tensor, seen: Tensor, momentum: float, average: bool, normalize: bool
) -> Tensor:
    return mixed(embeddings, slots, stored, seen, momentum, average, normalize)


@_mix_operator.register_fake
def _(embeddings: Tensor, *_: Tensor | float) -> Tensor:
    return torch.empty_like(embeddings)
