"""Rows in a memory-mapped file, and giving back the pages of it that a read or a push has passed.

Pages of a shared file mapping that are given back lose nothing: they stay in the page cache, and on their way to
the disk if they were written. They only stop counting as memory of this process until they are touched again.
"""

import math
import mmap
from collections.abc import Iterator, Mapping
from weakref import WeakValueDictionary

import torch
from torch import Tensor

# Bytes that are touched between two releases: large enough that a release, a few microseconds, does not count.
RESIDENT = 64 << 20
# Linux maps up to this many bytes around a page that is read (vm.fault_around), so a gathered row may cost as much.
_AROUND = 64 << 10
GATHERED = RESIDENT // _AROUND
"""Scattered rows that may be touched between two releases."""

# The mapped columns of this process by the address of their memory. Weak: an address may come again.
_MAPPED: WeakValueDictionary[int, "MappedRows"] = WeakValueDictionary()

ColumnSpec = tuple[torch.dtype, tuple[int, ...]]
"""Dtype and shape per row of one column."""


class MappedRows:
    """Columns of one length in a memory-mapped file, each a tensor ``(rows, *shape)`` that starts at a page.

    Args:
        memory: A shared, writable mapping of at least `file_size` bytes.
        rows: Length of every column.
        specs: The columns by name, in the order in which they lie.

    Attributes:
        columns: The tensors by name. Reads know that they are mapped for as long as this object lives.
        row_bytes: Bytes of one row over all columns.
    """

    def __init__(self, memory: mmap.mmap, rows: int, specs: Mapping[str, ColumnSpec]) -> None:
        self._memory = memory
        self._rows = rows
        self._places: list[tuple[int, int]] = []
        self._touched = 0
        self.columns: dict[str, Tensor] = {}
        for (name, (dtype, shape)), offset in zip(specs.items(), _offsets(rows, specs)[:-1], strict=True):
            flat = torch.frombuffer(memory, dtype=dtype, count=rows * math.prod(shape), offset=offset)
            column = flat.view(rows, *shape)
            self._places.append((offset, _row_bytes(dtype, shape)))
            self.columns[name] = column
            _MAPPED[column.untyped_storage().data_ptr()] = self
        self.row_bytes = sum(size for _, size in self._places)

    def release(self, first: int = 0, last: int | None = None) -> None:
        """Give back the pages that hold rows ``[first, last)``, where the system can."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        last = self._rows if last is None else last
        for offset, size in self._places:
            start = (offset + first * size) // mmap.PAGESIZE * mmap.PAGESIZE
            length = offset + last * size - start
            if length > 0:
                self._memory.madvise(mmap.MADV_DONTNEED, start, length)

    def touch(self, rows: int) -> None:
        """Count rows of a run that were written; give all pages back once they are many."""
        self._touched += rows * self.row_bytes
        if self._touched >= RESIDENT:
            self._touched = 0
            self.release()

    def runs(self, rows: int | None = None) -> Iterator[slice]:
        """Cut the first ``rows`` (all by default) into runs; the pages of a run are given back after its turn."""
        rows = self._rows if rows is None else rows
        size = max(1, RESIDENT // self.row_bytes)
        for start in range(0, rows, size):
            stop = min(start + size, rows)
            yield slice(start, stop)
            self.release(start, stop)


def file_size(rows: int, specs: Mapping[str, ColumnSpec]) -> int:
    """Bytes that a file of these columns takes."""
    return _offsets(rows, specs)[-1]


def mapping_of(tensor: Tensor) -> MappedRows | None:
    """The mapping that a tensor is a column of, or rows of one; None for ordinary memory."""
    # Compiled code cannot ask where a tensor lies, and gives no pages back.
    if not _MAPPED or not tensor.is_cpu or torch.compiler.is_compiling():
        return None
    return _MAPPED.get(tensor.untyped_storage().data_ptr())


def first_row(tensor: Tensor) -> int:
    """Where in its column the rows of a tensor begin."""
    return tensor.storage_offset() // max(1, math.prod(tensor.shape[1:]))


def _row_bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return dtype.itemsize * math.prod(shape)


def _offsets(rows: int, specs: Mapping[str, ColumnSpec]) -> list[int]:
    """Where each column begins, at a page, and where the last one ends."""
    offsets = [0]
    for dtype, shape in specs.values():
        end = offsets[-1] + rows * _row_bytes(dtype, shape)
        offsets.append(-(-end // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY)
    return offsets
