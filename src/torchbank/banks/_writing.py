"""Writing rows into slots: the only code that changes what a bank holds.

Axes: batch (rows of one push), capacity (slots of the bank). Shapes depend on the batch size alone and no value is
read on the host, except on the CPU: nothing waits for the device, and a push can be captured in a CUDA graph.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torchbank.banks._admission import Quotient
from torchbank.errors import BankValueError
from torchbank.reads import scatter, take

NOT_KEPT = -1
"""The slot of a row that a replacement rule does not keep."""

REFUSED = -2
"""The slot of a row that is bad input: never written, and counted in ``bank.rejected``."""


class Storage(NamedTuple):
    """The buffers of a bank that a push changes.

    Attributes:
        embeddings: ``(capacity, dim)``.
        fields: One tensor ``(capacity, *shape)`` for each declared field.
        steps: ``(capacity,)`` int64, the stamp of the last write.
        generations: ``(capacity,)`` int64, how often the slot was written.
        counters: Four 0-d int64 tensors: rows taken, pushes, the latest stamp, rows refused.
    """

    embeddings: Tensor
    fields: list[Tensor]
    steps: Tensor
    generations: Tensor
    counters: list[Tensor]


class _Plan(NamedTuple):
    """Which row of the batch goes where: one entry for each row of the batch, in the order of their slots.

    All entries of one slot write the same row, its last, so that the order of their writes does not matter.
    An entry without a slot repeats the write of the largest slot, which keeps shapes fixed; if no row of the
    batch has a slot, every entry writes back what slot 0 holds.

    Attributes:
        target: The slot that the entry writes.
        source: The row of the batch that it writes there.
        real: False where it writes back what the slot holds.
        won: In the order of the batch, the slot of each row that is written, -1 for the others.
    """

    target: Int64[Tensor, " batch"]
    source: Int64[Tensor, " batch"]
    real: Bool[Tensor, " batch"]
    won: Int64[Tensor, " batch"]


def _plan(slots: Int64[Tensor, " batch"]) -> _Plan:
    """Give every slot to the last row that takes it."""
    ordered, rows = torch.sort(slots, stable=True)
    last = torch.searchsorted(ordered, ordered, right=True) - 1
    entry = torch.where(ordered >= 0, last, len(slots) - 1)
    target = ordered[entry]
    wins = (ordered >= 0) & (last == torch.arange(len(slots), device=slots.device))
    won = torch.empty_like(slots).index_copy_(0, rows, torch.where(wins, ordered, NOT_KEPT))
    return _Plan(target.clamp_min(0), rows[entry], target >= 0, won)


def _write(buffer: Tensor, plan: _Plan, values: Tensor, *, whole: bool) -> None:
    """Write ``values``, one for each entry of the plan, into a buffer that may lie on the host.

    ``whole`` says that each entry is known to be real.
    """
    target, values = plan.target.to(buffer.device), values.to(buffer.device)
    if not whole:
        real = plan.real.to(buffer.device).view(-1, *[1] * (buffer.ndim - 1))
        values = torch.where(real, values, take(buffer, target, buffer.device))
    scatter(buffer, target, values)


def write_slots(
    embeddings: Tensor,
    fields: Sequence[Tensor],
    steps: Tensor,
    generations: Tensor,
    counters: Sequence[Tensor],
    rows: Tensor,
    columns: Sequence[Tensor],
    slots: Tensor,
    stamp: Tensor,
    merged: bool,
    rule: str,
    strict: bool,
) -> Tensor:
    """Write one push to any slots, on any device.

    Args:
        embeddings: With the next four the `Storage` of the bank, changed in place; spelt out, and without shapes,
            because this is also the signature of an operator.
        fields: See `Storage`.
        steps: See `Storage`.
        generations: See `Storage`.
        counters: See `Storage`.
        rows: ``(batch, dim)`` in the dtype of the bank.
        columns: The fields of the push, in the order of ``fields``.
        slots: ``(batch,)`` int64, where each row goes, `NOT_KEPT` or `REFUSED`. The last of several rows for one
            slot is written.
        stamp: 0-d int64, the stamp of this push.
        merged: Rows for one slot are already merged, so that each of them counts as written.
        rule: The name of the rule that gave the slots, for messages.
        strict: Raise for slots that do not exist and for rows that were refused, which reads the slots.

    Returns:
        ``(batch,)`` int64, the slot of each row that was written, -1 for the others.

    Raises:
        BankValueError: ``strict``, and a slot lies outside the bank or a row was refused.
    """
    if strict:
        _check_slots(slots, steps.shape[0], rule)
    total, pushes, clock, rejected = counters
    refused = (slots == REFUSED).sum()
    total.add_(len(slots) - refused)
    pushes.add_(1)
    clock.copy_(stamp)
    rejected.add_(refused)
    if len(slots) == 0:
        return slots.clone()
    plan = _plan(slots)
    whole = strict and bool(plan.real.all())
    _write(embeddings, plan, rows[plan.source], whole=whole)
    for buffer, column in zip(fields, columns, strict=True):
        _write(buffer, plan, column[plan.source], whole=whole)
    _write(steps, plan, stamp.expand(len(slots)), whole=whole)
    _write(generations, plan, take(generations, plan.target, generations.device) + 1, whole=whole)
    return slots.clamp_min(NOT_KEPT) if merged else plan.won


def write_run(
    storage: Storage, quotient: Quotient, columns: Sequence[Tensor], start: int, step: int
) -> Int64[Tensor, " batch"]:
    """Write one push to consecutive slots on the CPU, by slices: at most two copies for each buffer.

    Args:
        storage: The bank's buffers, changed in place.
        quotient: The rows, in any dtype that the bank's can hold; the newest ``capacity`` of them are written.
        columns: The fields of the push, in the order of ``storage.fields``.
        start: The slot of the first row of the batch, were all of them kept.
        step: The stamp of this push.

    Returns:
        The slot of each row that was written, -1 for the others.
    """
    capacity, batch = storage.steps.shape[0], quotient.rows.shape[0]
    if start + batch <= capacity:
        _write_slice(storage, slice(start, start + batch), quotient.rows, quotient.norms, columns, step)
    else:
        dropped = max(0, batch - capacity)
        first = (start + dropped) % capacity
        # Rows [begin, end) of the batch go to the slots from `slot` on.
        wrap = min(batch, dropped + capacity - first)
        for begin, end, slot in ((dropped, wrap, first), (wrap, batch, 0)):
            part, norms = slice(begin, end), quotient.norms
            target = slice(slot, slot + end - begin)
            part_norms = None if norms is None else norms[part]
            _write_slice(storage, target, quotient.rows[part], part_norms, [column[part] for column in columns], step)
    total, pushes, clock, _ = storage.counters
    total.add_(batch)
    pushes.add_(1)
    clock.fill_(step)
    slots = torch.arange(start, start + batch)
    if start + batch > capacity:
        slots.remainder_(capacity)
        slots[: max(0, batch - capacity)] = NOT_KEPT
    return slots


def _write_slice(
    storage: Storage,
    target: slice,
    rows: Float[Tensor, "batch dim"],
    norms: Float[Tensor, "batch 1"] | None,
    columns: Sequence[Tensor],
    step: int,
) -> None:
    if norms is None:
        storage.embeddings[target].copy_(rows)
    else:
        torch.div(rows, norms, out=storage.embeddings[target])
    for buffer, column in zip(storage.fields, columns, strict=True):
        buffer[target].copy_(column)
    storage.steps[target].fill_(step)
    storage.generations[target].add_(1)


def rewrite_slots(
    storage: Storage,
    rows: Float[Tensor, "batch dim"],
    slots: Int64[Tensor, " batch"],
    generations: Int64[Tensor, " batch"],
    accepted: Bool[Tensor, " batch"],
    stamp: Int64[Tensor, ""],
) -> Int64[Tensor, ""]:
    """Write embeddings and stamps again where the slot still holds the row it held.

    Args:
        storage: The bank's buffers, changed in place.
        rows: In the dtype of the bank.
        slots: Where each row lay; one that is not a slot is stale.
        generations: The generation of the slot at that time.
        accepted: False for a row that may not be stored.
        stamp: The stamp of the rows that are written.

    Returns:
        How many rows were stale.
    """
    held = take(storage.generations, slots.clamp(0, storage.steps.shape[0] - 1), slots.device)
    current = (slots >= 0) & (slots < storage.steps.shape[0]) & (held == generations) & (held > 0)
    storage.counters[3].add_((~accepted).sum())
    if len(slots) > 0:
        plan = _plan(torch.where(current & accepted, slots, NOT_KEPT))
        _write(storage.embeddings, plan, rows[plan.source], whole=False)
        _write(storage.steps, plan, stamp.expand(len(slots)), whole=False)
    return (~current).sum()


def _check_slots(slots: Int64[Tensor, " batch"], capacity: int, rule: str) -> None:
    outside = (slots < NOT_KEPT) | (slots >= capacity)
    if outside.any():
        row = int(outside.int().argmax())
        slot = int(slots[row])
        if slot == REFUSED:
            msg = f"row {row} was refused by {rule} as bad input; leave it out"
        else:
            msg = f"{rule} gave slot {slot} to row {row}; expected 0 to {capacity - 1}, or -1 for a row not kept"
        raise BankValueError(msg)


write_operator = torch.library.custom_op(
    "torchbank::write",
    write_slots,
    mutates_args=("embeddings", "fields", "steps", "generations", "counters"),
)
"""`write_slots` as one operator of a compiled graph."""


@write_operator.register_fake
def _(*arguments: Any) -> Tensor:
    return torch.empty_like(arguments[7])  # the slots
