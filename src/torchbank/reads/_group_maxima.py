"""Exact nearest rows by group maxima.

The k best rows of a query lie in the k groups with the best maxima: a row outside them is beaten by the
maximum of each. So a block's scores are reduced to the maximum of each group while they are in the cache, and the
best groups so far are kept, O(batch). Only the groups that win in the end are scored again.

Where scores come with an error, `best_groups` keeps upper bounds of the maxima instead (see `_bf16_candidates`).

Axes: batch (queries), groups, members (rows of a group), width (groups kept for a query).
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from torchbank.reads._score_again import score_again
from torchbank.reads._selection import Selection
from torchbank.reads._staging import take
from torchbank.reads._stream import Block, block_rows, stream

# Up to this many neighbours, groups are large and few maxima wait to be ranked: 4 MB of them in float32, which are
# the groups of 131,072 rows at batch 256. Beyond, more is ranked at a time: ranking costs more than reading.
_FEW_NEIGHBORS = 16
_MAXIMA_FOR_FEW, _MAXIMA = 1 << 20, 1 << 21
# A bank of fewer groups than this many times those that would be read again is ranked whole, if neither its scores
# nor its rows in float32 take more than 16 MB.
_WHOLE_GROUPS = 64
_WHOLE = 1 << 22
# The maximum over a middle axis is fast where the last one holds a multiple of this many values; a wide batch has
# few beyond the last multiple.
_VECTOR, _WIDE_BATCH = 32, 256
# Products of 16 bits are so quick that blocks of more rows pay: fewer, longer passes, though through the third cache.
_LARGE = 2
# Inner products rank Euclidean neighbours up to rounding, so that many more groups are scored again.
_EUCLIDEAN_MARGIN = 8

Slack = Callable[[Block], Float[Tensor, " batch"]]
"""How far the scores of a block may lie below the true ones, for each query."""


class BestGroups(NamedTuple):
    """The groups with the best maxima so far, for each query.

    Attributes:
        maxima: The best score in each group; -inf where there are fewer groups.
        members: The slots of the rows of each group; -1 where there is none.
    """

    maxima: Float[Tensor, "batch width"]
    members: Int64[Tensor, "batch width members"]


def nearest_blocked(
    queries: Float[Tensor, "batch dim"], rows: Float[Tensor, "rows dim"], k: int, metric: str, selection: Selection
) -> tuple[Tensor, Tensor]:
    """Scores (batch, k) and slots (batch, k); -inf and -1 where there are fewer than k rows."""
    if not queries.shape[0] or not rows.shape[0]:
        scores = queries.new_full((queries.shape[0], k), -torch.inf)
        return scores, torch.full(scores.shape, -1, dtype=torch.int64, device=scores.device)
    width = k + _EUCLIDEAN_MARGIN * (metric == "euclidean")
    best = best_groups(queries, rows, selection, width, group=group_rows(width), metric=metric)
    query = torch.arange(len(queries), device=queries.device).repeat_interleave(width)
    scores = score_again(queries, rows, selection, query, best.members.flatten(0, 1), metric=metric)
    return best_rows(scores.view(len(queries), -1), best.members, k)


def best_rows(
    scores: Float[Tensor, "batch candidates"], members: Int64[Tensor, "batch width members"], k: int
) -> tuple[Tensor, Tensor]:
    """Scores (batch, k) and slots (batch, k) of the best members of some groups."""
    chosen = scores.topk(k, dim=1)
    slots = members.flatten(1).gather(1, chosen.indices)
    return chosen.values, slots.masked_fill(chosen.values == -torch.inf, -1)


def few(queries: Tensor, rows: Tensor, k: int, metric: str) -> bool:
    """Whether ranking all scores at once is cheaper than reading the best groups again, and takes little memory."""
    worthwhile = len(rows) <= _WHOLE_GROUPS * k * group_rows(k)
    return metric == "dot" and worthwhile and max(len(queries), rows.shape[1]) * len(rows) <= _WHOLE


def nearest_of_few(
    queries: Float[Tensor, "batch dim"], rows: Float[Tensor, "rows dim"], k: int, selection: Selection
) -> tuple[Tensor, Tensor]:
    """Rank all scores of a small bank."""
    scores = queries.new_empty(len(queries), 0)
    slots = torch.empty(scores.shape, dtype=torch.int64, device=scores.device)
    for block in stream(queries, rows, selection, size=len(rows)):
        if block.bias is not None:
            block.scores.add_(block.bias)
        block.leave_out(-torch.inf, block.scores)
        scores, columns = block.scores.topk(min(k, block.scores.shape[1]), dim=1)
        slots = columns if isinstance(block.slots, slice) else block.slots[columns]
    missing = (0, k - scores.shape[1])
    slots = pad(slots.masked_fill(scores == -torch.inf, -1), missing, value=-1)
    return pad(scores, missing, value=-torch.inf), slots


def best_groups(
    queries: Tensor,
    rows: Tensor,
    selection: Selection,
    width: int,
    *,
    group: int,
    metric: str = "dot",
    slack: Slack | None = None,
) -> BestGroups:
    """One pass over the bank: the ``width`` groups of ``group`` rows with the best maxima.

    With ``slack`` the products are bfloat16, and the maxima upper bounds but for the rounding of a product.
    """
    maxima = queries.new_full((len(queries), width), -torch.inf)
    members = torch.full((len(queries), width, group), -1, dtype=torch.int64, device=queries.device)
    kept = _MAXIMA_FOR_FEW if width <= _FEW_NEIGHBORS else _MAXIMA
    for here in _super_blocks(queries, rows, selection, group, kept, metric, slack):
        found = here.maxima.T.contiguous().topk(min(width, len(here.maxima)), dim=1)
        merged = torch.cat([maxima, found.values], dim=1).topk(width, dim=1)
        maxima = merged.values
        members = torch.cat([members, here.members(found.indices)], dim=1)
        members = members.gather(1, merged.indices[:, :, None].expand(-1, -1, group))
    return BestGroups(maxima, members)


class _SuperBlock(NamedTuple):
    """The group maxima of some blocks.

    A group takes every ``apart``-th row of a run of ``apart * group`` rows of one block.

    Attributes:
        maxima: ``(groups, batch)``.
        read: The slots of each block.
        size: Rows of a block; the last ones of a short block are missing.
        group: Rows of a group.
        apart: How far apart they lie.
    """

    maxima: Tensor
    read: list[slice | Tensor]
    size: int
    group: int
    apart: int

    def members(self, found: Int64[Tensor, "batch width"]) -> Int64[Tensor, "batch width members"]:
        """The slots of the rows of some groups; -1 beyond the end of a block."""
        groups, run = self.size // self.group, self.group * self.apart
        block, place = found // groups, found % groups
        steps = torch.arange(0, run, self.apart, device=found.device)
        column = (place // self.apart * run + place % self.apart)[:, :, None] + steps
        first, last = self.read[0], self.read[-1]
        if isinstance(first, slice) and isinstance(last, slice) and last.start == first.start + self._before_last():
            slots = first.start + block[:, :, None] * self.size + column
            return slots.masked_fill(slots >= last.stop, -1)
        picked = [torch.arange(part.start, part.stop) if isinstance(part, slice) else part for part in self.read]
        table = torch.nn.utils.rnn.pad_sequence(picked, batch_first=True, padding_value=-1)
        there = column < table.shape[1]
        return table[block[:, :, None], column.clamp_max(table.shape[1] - 1)].masked_fill(~there, -1)

    def _before_last(self) -> int:
        """The rows of all blocks but the last, if none was left out."""
        return (len(self.read) - 1) * self.size


def _super_blocks(
    queries: Tensor, rows: Tensor, selection: Selection, group: int, kept: int, metric: str, slack: Slack | None
) -> Iterator[_SuperBlock]:
    """Yield the group maxima of one run of the bank after another, ``kept`` of them at most."""
    batch = len(queries)
    apart = _rows_apart(batch)
    products = None if slack is None else torch.bfloat16
    size = _block_size(queries, rows, group * apart, large=products is not None)
    groups = size // group
    blocks = min(max(1, kept // (batch * groups)), -(-rows.shape[0] // size))
    maxima = queries.new_empty(blocks, groups, batch)
    center = center_of(rows, queries) if metric == "euclidean" else None
    read: list[slice | Tensor] = []
    # Scores of one row lie together, so the maximum over the rows of a group runs over whole vectors of queries.
    for block in stream(queries, rows, selection, size=size, center=center, contiguous="row", products=products):
        scores = block.scores
        if block.bias is not None:
            scores += block.bias
        block.leave_out(-torch.inf, scores)
        by_row = scores.T
        if len(by_row) < size:
            by_row = pad(by_row, (0, 0, 0, size - len(by_row)), value=-torch.inf)
        runs = by_row.view(groups // apart, group, apart * batch)
        torch.amax(runs, dim=1, out=maxima[len(read)].view(groups // apart, apart * batch))
        if slack is not None:
            maxima[len(read)] += slack(block)
        read.append(block.slots)
        if len(read) == blocks:
            yield _SuperBlock(maxima.flatten(0, 1), read, size, group, apart)
            read = []
    if read:
        yield _SuperBlock(maxima[: len(read)].flatten(0, 1), read, size, group, apart)


def group_rows(width: int) -> int:
    """Rows in a group: large groups rank fast, small ones leave less to score again."""
    return 32 if width <= _FEW_NEIGHBORS else 16


def _rows_apart(batch: int) -> int:
    """How far apart the rows of a group lie: of a small batch, several rows fill the vectors a maximum runs over."""
    return _VECTOR // math.gcd(batch, _VECTOR) if batch < _WIDE_BATCH else 1


def _block_size(queries: Tensor, rows: Tensor, whole: int, *, large: bool) -> int:
    """Rows in a block, a multiple of ``whole``, and no more than there are."""
    size = block_rows(queries, rows) * (_LARGE if large else 1)
    return max(1, min(size // whole, -(-len(rows) // whole))) * whole


def center_of(rows: Tensor, queries: Tensor) -> Float[Tensor, "1 dim"]:
    """A point amid the rows: distances do not change by it, and rounding no longer grows with the offset."""
    step = max(1, rows.shape[0] // 4096)
    some = take(rows, torch.arange(0, rows.shape[0], step, device=rows.device), queries.device)
    return some.to(queries.dtype).mean(dim=0, keepdim=True)
