"""One pass over the bank in blocks that stay in the cache: what the blocked reads share.

Axes: batch (queries), rows (rows of the bank), columns (the rows of one block that are read).
Each block's scores are computed into one buffer that is reused, so extra memory does not grow with the bank.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torchbank.reads._products import multiply_vector
from torchbank.reads._selection import Clause, Selection, agreement
from torchbank.reads._staging import Step, staged, take

# A block of scores of this many values fits the second-level cache of two cores beside its rows.
_SCORES_A_BLOCK = 1 << 19
# So many values of rows in another dtype are converted at a time, to be multiplied while they are in that cache.
_CONVERTED_A_BLOCK = 1 << 19
# On a GPU a block takes a dozen launches of some microseconds each, whatever its size: up to 64 MB of scores, and of
# rows, in float32.
_SCORES_A_BLOCK_ON_GPU = 1 << 24
# Below this share of a block's columns it is cheaper to gather the columns than to mask all of them.
_SPARSE = 0.25


@dataclass(frozen=True)
class Block:
    """Some rows of the bank and their scores.

    Attributes:
        rows: ``(columns, dim)`` in the dtype of the products.
        scores: ``(batch, columns)``, the buffer: the reads work on it in place.
        slots: Where each column stands in the bank: its first row, or an index where rows were picked.
    """

    rows: Float[Tensor, "columns dim"]
    scores: Float[Tensor, "batch columns"]
    slots: slice | Int64[Tensor, " columns"]
    selection: Selection
    bias: Float[Tensor, " columns"] | None

    def leave_out(self, fill: float, *values: Float[Tensor, "batch columns"]) -> None:
        """Write ``fill`` into each of ``values`` in place wherever the selection leaves a row out for a query."""
        for clause in self.selection.exclude:
            columns = _columns_that_may_agree(clause, self.slots)
            mask = agreement((_on(clause, self.slots, columns),))
            for each in values:
                _fill_where(each, mask, columns, fill)
        if self.selection.include:
            mask = ~agreement(tuple(_on(clause, self.slots, None) for clause in self.selection.include))
            for each in values:
                each.masked_fill_(mask, fill)

    def keeps(self, queries: Int64[Tensor, " pairs"], columns: Int64[Tensor, " pairs"]) -> Bool[Tensor, " pairs"]:
        """Whether the selection keeps a row for a query, for some pairs of them."""
        slots = self._slots_of(columns)
        kept = torch.ones_like(queries, dtype=torch.bool)
        for clause in self.selection.exclude:
            kept &= ~_agreeing(clause, queries, slots)
        if self.selection.include:
            kept &= torch.stack([_agreeing(clause, queries, slots) for clause in self.selection.include]).any(dim=0)
        if self.bias is not None:
            kept &= self.bias[columns] != -torch.inf
        return kept

    def only(self, columns: Int64[Tensor, " picked"]) -> "Block":
        """Some columns of the block, copied."""
        bias = None if self.bias is None else self.bias[columns]
        scores = self.scores.T.index_select(0, columns).T
        return Block(self.rows.index_select(0, columns), scores, self._slots_of(columns), self.selection, bias)

    def _slots_of(self, columns: Int64[Tensor, " picked"]) -> Int64[Tensor, " picked"]:
        return columns + self.slots.start if isinstance(self.slots, slice) else self.slots[columns]

    def values_of(self, row_values: Tensor) -> Tensor:
        """A per-row tensor ``(rows,)`` at this block's columns."""
        return take(row_values, self.slots, self.scores.device)


def block_rows(queries: Tensor, rows: Tensor) -> int:
    """How many rows a block holds for a batch of queries."""
    if queries.device.type == "cuda":
        return max(256, min(65_536, _SCORES_A_BLOCK_ON_GPU // max(1, *queries.shape)))
    most = 65_536 if rows.dtype == queries.dtype else _CONVERTED_A_BLOCK // max(1, rows.shape[1])
    return max(256, min(most, _SCORES_A_BLOCK // max(1, len(queries))))


def stream(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    selection: Selection,
    *,
    size: int | None = None,
    center: Float[Tensor, "1 dim"] | None = None,
    contiguous: Literal["query", "row"] = "query",
    products: torch.dtype | None = None,
) -> Iterator[Block]:
    """Yield the bank block by block with the scores ``queries @ block.T``.

    ``queries`` come in the compute dtype; rows of another dtype are converted a block at a time. With
    ``include`` on the CPU only the rows that agree with at least one query are read at all. With ``center`` the
    scores rank by Euclidean distance instead: ``2 (q - c) . (r - c) - ||r - c||^2``. ``contiguous`` says whether
    the scores of a query or those of a row lie side by side in memory. ``products`` is the dtype of the products, by
    default that of the queries, which the scores come in.
    """
    size = block_rows(queries, rows) if size is None else size
    size = max(1, min(size, rows.shape[0]))
    buffer = queries.new_empty(queries.shape[0] * size)
    rounded = None
    if products is not None:
        queries = queries.to(products)
        rounded = queries.new_empty(buffer.shape)
    converted = None
    if rows.dtype != queries.dtype or center is not None:
        converted = queries.new_empty(size, rows.shape[1])
    if center is not None:
        queries = queries - center
    for slots, block in staged(rows, _steps(rows.shape[0], size, selection), size, queries.device):
        if converted is not None:
            block = converted[: block.shape[0]].copy_(block)
        scores = _table(buffer, len(queries), len(block), contiguous)
        if center is not None:
            block -= center
            torch.addmm(block.square().sum(dim=1), queries, block.T, beta=-1, alpha=2, out=scores)
        elif rounded is None:
            _multiply(queries, block, scores)
        else:
            low = _table(rounded, len(queries), len(block), contiguous)
            torch.mm(queries, block.T, out=low)
            scores.copy_(low)
        bias = None if selection.bias is None else selection.bias[slots].to(buffer.dtype)
        yield Block(block, scores, slots, selection, bias)


def _table(buffer: Tensor, batch: int, columns: int, contiguous: str) -> Float[Tensor, "batch columns"]:
    """The head of a flat buffer as scores, those of a query or of a row side by side."""
    flat = buffer[: batch * columns]
    return flat.view(batch, columns) if contiguous == "query" else flat.view(columns, batch).T


def _steps(rows: int, size: int, selection: Selection) -> Iterator[Step]:
    """Runs of ``size`` rows, or of runs as long as may be the at most ``size`` rows that agree with a query."""
    span = int(size / _SPARSE / len(selection.include)) if selection.include else size
    for start in range(0, rows, span):
        run = slice(start, min(start + span, rows))
        picked = _included_columns(selection.include, run) if selection.include else None
        if picked is not None:
            yield run.stop, picked + start if len(picked) else None
            continue
        for first in range(start, run.stop, size):
            part = slice(first, min(first + size, run.stop))
            yield part.stop, part


def _multiply(
    queries: Float[Tensor, "batch dim"], block: Float[Tensor, "columns dim"], scores: Float[Tensor, "batch columns"]
) -> None:
    """Write ``queries @ block.T``."""
    if len(queries) == 1 and block.is_cpu:
        multiply_vector(queries, block, scores)
    else:
        torch.mm(queries, block.T, out=scores)


def _on(clause: Clause, slots: slice | Tensor, columns: Tensor | None) -> Clause:
    """A clause restricted to a block, or to some columns of it."""
    if columns is None:
        return tuple((query, take(row, slots, query.device)) for query, row in clause)
    return tuple((query, take(row, slots, query.device)[columns]) for query, row in clause)


def _agreeing(
    clause: Clause, queries: Int64[Tensor, " pairs"], slots: Int64[Tensor, " pairs"]
) -> Bool[Tensor, " pairs"]:
    """Where a clause holds for a query and the row at a slot."""
    matches = [query.index_select(0, queries) == take(row, slots, queries.device) for query, row in clause]
    return torch.stack(matches).all(dim=0)


def _columns_that_may_agree(clause: Clause, slots: slice | Tensor) -> Int64[Tensor, " hits"] | None:
    """The columns of a block whose first field agrees with any query; None where all columns may.

    Ids agree with few rows: finding them costs a binary search a row, against one comparison for every
    query and row. Not where it would make the host wait for the device.
    """
    query_values, row_values = clause[0]
    if query_values.device.type != "cpu" or not len(query_values):
        return None
    block = take(row_values, slots, query_values.device)
    known = query_values.to(block.dtype).sort().values if block.dtype == query_values.dtype else None
    if known is None:
        return None
    place = torch.searchsorted(known, block).clamp_max_(len(known) - 1)
    columns = (known.index_select(0, place) == block).nonzero().squeeze(1)
    return columns if len(columns) < _SPARSE * len(block) else None


def _included_columns(clauses: tuple[Clause, ...], slots: slice) -> Int64[Tensor, " hits"] | None:
    """The columns that any clause may keep, or None to read the block whole."""
    parts = [_columns_that_may_agree(clause, slots) for clause in clauses]
    if any(part is None for part in parts):
        return None
    picked = [part for part in parts if part is not None]
    return picked[0] if len(picked) == 1 else torch.cat(picked).unique()


def _fill_where(values: Tensor, mask: Bool[Tensor, "batch hits"], columns: Tensor | None, fill: float) -> None:
    if columns is None:
        values.masked_fill_(mask, fill)
    elif len(columns) and values.T.is_contiguous():
        values.T.index_copy_(0, columns, values.T.index_select(0, columns).masked_fill_(mask.T, fill))
    elif len(columns):
        values.index_copy_(1, columns, values.index_select(1, columns).masked_fill_(mask, fill))
