"""Rows on their way to the queries: blocks that lie where the queries do, wherever the bank lies.

Where both lie on one device a block is a view. Rows in host memory are copied to a GPU two blocks at a time, on a
stream of their own, so that a block is copied while the one before it is computed with. Rows in a mapped file are
read in place, and their pages given back once they are passed.

Axes: rows (rows of the bank), columns (the rows of one block).
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from torchbank.reads._mapped import GATHERED, RESIDENT, MappedRows, first_row, mapping_of

Slots = slice | Int64[Tensor, " columns"]
"""Where the rows of a block stand in the bank."""

Step = tuple[int, Slots | None]
"""One step of a pass: the row up to which it goes, and the rows that it reads, if any."""


def staged(
    rows: Float[Tensor, "rows dim"], steps: Iterator[Step], size: int, device: torch.device
) -> Iterator[tuple[Slots, Tensor]]:
    """Yield each block's slots and rows ``(columns, dim)`` on ``device``.

    A block is good until the next one is asked for, and must not be written to.

    Args:
        rows: The bank, on ``device`` or on the host.
        steps: The pass, in ascending order of rows.
        size: The most rows that a block has.
        device: Where the rows are needed.
    """
    if rows.device != device:
        return _from_host(rows, steps, size, device)
    return ((slots, rows[slots]) for slots in _passing(rows, steps))


def resident_rows(rows: Float[Tensor, "rows dim"]) -> int:
    """How many rows may be read at once, wherever they lie."""
    return max(1, RESIDENT // (rows.shape[1] * rows.element_size()))


def take(values: Shaped[Tensor, "rows ..."], slots: Slots | Int64[Tensor, "..."], device: torch.device) -> Tensor:
    """``values[slots]`` on ``device``: a view for a slice where that can be."""
    if isinstance(slots, slice):
        return values[slots].to(device)
    here = slots.to(values.device)
    if mapping_of(values) is None:
        return values.index_select(0, here.flatten()).view(*here.shape, *values.shape[1:]).to(device)
    found = values.new_empty(*slots.shape, *values.shape[1:])
    gather(values, here.flatten(), out=found.view(-1, *values.shape[1:]))
    return found.to(device)


def gather(
    values: Shaped[Tensor, "rows ..."], slots: Int64[Tensor, " columns"], *, out: Shaped[Tensor, "columns ..."]
) -> Tensor:
    """``values[slots]`` into ``out``, both where the values lie; few pages of a mapped file at a time."""
    slots = slots.to(values.device)
    mapping = mapping_of(values)
    if mapping is None:
        return torch.index_select(values, 0, slots, out=out)
    for part, place in zip(out.split(GATHERED), slots.split(GATHERED), strict=True):
        torch.index_select(values, 0, place, out=part)
        _release_around(values, place, mapping)
    return out


def scatter(
    values: Shaped[Tensor, "rows ..."], slots: Int64[Tensor, " columns"], new: Shaped[Tensor, "columns ..."]
) -> None:
    """``values[slots] = new``, all on one device; few pages of a mapped file at a time."""
    mapping = mapping_of(values)
    if mapping is None:
        values.index_copy_(0, slots, new)
        return
    for part, place in zip(new.split(GATHERED), slots.split(GATHERED), strict=True):
        values.index_copy_(0, place, part)
        _release_around(values, place, mapping)


def passing(column: Shaped[Tensor, "rows ..."]) -> Iterator[slice]:
    """Cut a whole column into runs of at most 64 MB; the pages of a mapped file are given back after each."""
    mapping = mapping_of(column)
    if mapping is not None:
        yield from mapping.runs()
        return
    size = max(1, RESIDENT // (column[:1].nbytes or 1))
    for start in range(0, len(column), size):
        yield slice(start, min(start + size, len(column)))


def release(column: Tensor) -> None:
    """Give back all pages of the file that a column is mapped from, if it is."""
    mapping = mapping_of(column)
    if mapping is not None:
        mapping.release()


def copy_rows(target: Shaped[Tensor, "rows ..."], source: Shaped[Tensor, "rows ..."]) -> None:
    """Copy a whole column, and give back what was passed of columns in mapped files."""
    mapping = mapping_of(source)
    for run in passing(target):
        target[run].copy_(source[run])
        if mapping is not None:
            mapping.release(run.start, run.stop)


def _release_around(values: Tensor, slots: Int64[Tensor, " columns"], mapping: MappedRows) -> None:
    if len(slots):
        lowest, highest = slots.aminmax()
        first = first_row(values)
        mapping.release(first + int(lowest), first + int(highest) + 1)


def _passing(rows: Tensor, steps: Iterator[Step]) -> Iterator[Slots]:
    """The slots that are read, while the pages of a mapped file that were passed are given back."""
    mapping = mapping_of(rows)
    if mapping is None:
        yield from (slots for _, slots in steps if slots is not None)
        return
    base = first_row(rows)
    kept = base
    try:
        for stop, slots in steps:
            if slots is not None:
                yield slots
            # Released here, the pages of the fields that a step looked at and of the rows that it read.
            if (base + stop - kept) * mapping.row_bytes >= RESIDENT:
                mapping.release(kept, base + stop)
                kept = base + stop
    finally:
        mapping.release(kept, base + len(rows))


def _from_host(rows: Tensor, steps: Iterator[Step], size: int, device: torch.device) -> Iterator[tuple[Slots, Tensor]]:
    """Blocks of rows on the host, copied to the GPU one ahead of the block in use."""
    copier = _Copier(rows, size, device)
    ahead: tuple[int, Slots, Tensor] | None = None
    try:
        for number, slots in enumerate(_passing(rows, steps)):
            following = (number % 2, slots, copier.copy(number % 2, slots))
            if ahead is not None:
                yield copier.ready(*ahead)
                # Whoever asks again has queued all work on the block.
                copier.used(ahead[0])
            ahead = following
        if ahead is not None:
            yield copier.ready(*ahead)
    finally:
        copier.close()


class _Copier:
    """Two buffers on the GPU that a stream of its own fills in turn from rows on the host.

    Rows in pinned memory are copied straight from where they lie, and the host waits for nothing. Others go
    through two pinned buffers; the host waits until the copy out of one is done before it fills it again.
    """

    def __init__(self, rows: Tensor, size: int, device: torch.device) -> None:
        self._rows = rows
        shape = (size, *rows.shape[1:])
        self._buffers = [torch.empty(shape, dtype=rows.dtype, device=device) for _ in range(2)]
        self._pinned = None
        if not rows.is_pinned():
            self._pinned = [torch.empty(shape, dtype=rows.dtype, device="cpu", pin_memory=True) for _ in range(2)]
        self._reader = torch.cuda.current_stream(device)
        self._stream = torch.cuda.Stream(device)
        # The buffers may be memory that earlier work on the reader's stream still uses.
        self._stream.wait_stream(self._reader)
        self._copied = [torch.cuda.Event() for _ in range(2)]
        self._free = [torch.cuda.Event() for _ in range(2)]

    def copy(self, turn: int, slots: Slots) -> Tensor:
        """Start to fill a buffer; its last user must be queued."""
        source = self._rows[slots]
        if self._pinned is not None:
            # An event that was never recorded counts as done.
            self._copied[turn].synchronize()
            source = self._pinned[turn][: len(source)].copy_(source)
        block = self._buffers[turn][: len(source)]
        self._stream.wait_event(self._free[turn])
        with torch.cuda.stream(self._stream):
            block.copy_(source, non_blocking=True)
        self._copied[turn].record(self._stream)
        return block

    def ready(self, turn: int, slots: Slots, block: Tensor) -> tuple[Slots, Tensor]:
        """Let the reader's stream wait for the copy."""
        self._reader.wait_event(self._copied[turn])
        return slots, block

    def used(self, turn: int) -> None:
        """The reader has queued all of its work on a buffer."""
        self._free[turn].record(self._reader)

    def close(self) -> None:
        """The buffers go back to the reader's stream, which must not get them while a copy still runs."""
        self._reader.wait_stream(self._stream)
