"""Exact nearest rows by group maxima.

The k best rows of a query lie in the k groups with the best maxima: a row outside them is beaten by the
maximum of each. So a block's scores are reduced to the maximum of each group while they are in the cache, the
groups are ranked, and only the winning groups are scored again. Running winners over super-blocks keep the
maxima O(batch); a group is read again only if its maximum beats the k-th best score so far.

Axes: batch (queries), groups, members (rows of a group), pairs (a query and a group to read again).
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torchbank.reads._selection import Clause, Selection
from torchbank.reads._stream import block_rows, stream

# Group maxima kept before they are ranked (4 MB in float32): groups of 131,072 rows at batch 256, k 10.
_MAXIMA = 1 << 20
# Scores that are written and ranked whole (16 MB in float32): below this, groups cost more than they save.
WHOLE = 1 << 22
# Values gathered at a time when groups are scored again (8 MB in float32).
_GATHERED = 1 << 21
# Inner products rank Euclidean neighbours up to rounding, so that many more groups are scored again.
_EUCLIDEAN_MARGIN = 8


class Winners(NamedTuple):
    """Groups to score again, a pair each, and where their members go among a query's candidates."""

    query: Int64[Tensor, " pairs"]
    group: Int64[Tensor, " pairs"]
    rank: Int64[Tensor, " pairs"]
    width: int


def nearest_blocked(
    queries: Float[Tensor, "batch dim"], rows: Float[Tensor, "rows dim"], k: int, metric: str, selection: Selection
) -> tuple[Tensor, Tensor]:
    """Scores (batch, k) and slots (batch, k); -inf and -1 where there are fewer than k rows."""
    scores = queries.new_full((queries.shape[0], k), -torch.inf)
    slots = torch.full(scores.shape, -1, dtype=torch.int64, device=scores.device)
    if not queries.shape[0] or not rows.shape[0]:
        return scores, slots
    for maxima, members in _super_blocks(queries, rows, selection, k, metric):
        winners = _winners(maxima, scores[:, -1], k, metric)
        again, again_slots = _score_again(queries, rows, selection, metric, members, winners)
        merged = torch.cat([scores, again], dim=1).topk(k, dim=1)
        scores = merged.values
        slots = torch.cat([slots, again_slots], dim=1).gather(1, merged.indices)
    return scores, slots.masked_fill(scores == -torch.inf, -1)


def nearest_of_few(
    queries: Float[Tensor, "batch dim"], rows: Float[Tensor, "rows dim"], k: int, selection: Selection
) -> tuple[Tensor, Tensor]:
    """Rank all scores: for a small batch or a small bank."""
    scores = queries.new_full((len(queries), max(k, len(rows))), -torch.inf)
    # In one product where no row needs converting: a batch of 1 is bound by reading the bank.
    for block in stream(queries, rows, selection, size=len(rows) if rows.dtype == queries.dtype else None):
        if block.bias is not None:
            block.scores.add_(block.bias)
        block.leave_out(-torch.inf, block.scores)
        scores[:, block.slots] = block.scores
    best = scores.topk(k, dim=1)
    return best.values, best.indices.masked_fill(best.values == -torch.inf, -1)


def _super_blocks(
    queries: Tensor, rows: Tensor, selection: Selection, k: int, metric: str
) -> Iterator[tuple[Float[Tensor, "batch groups"], Int64[Tensor, "groups members"]]]:
    """Yield the group maxima of one run of the bank after another, with the slots of each group (-1: none)."""
    group = _group_rows(k)
    size = _block_size(queries, rows, group)
    groups = size // group
    blocks = min(max(1, _MAXIMA // (queries.shape[0] * groups)), -(-rows.shape[0] // size))
    maxima = queries.new_empty(queries.shape[0], blocks * groups)
    slots = torch.full((blocks, size), -1, dtype=torch.int64, device=rows.device)
    every = torch.arange(rows.shape[0], device=rows.device)
    center = _center(rows, queries.dtype) if metric == "euclidean" else None
    filled = 0
    for block in stream(queries, rows, selection, size=size, center=center):
        scores = block.scores
        if block.bias is not None:
            scores += block.bias
        block.leave_out(-torch.inf, scores)
        if scores.shape[1] < size:
            scores = torch.nn.functional.pad(scores, (0, size - scores.shape[1]), value=-torch.inf)
            slots[filled] = -1
        slots[filled, : block.rows.shape[0]] = every[block.slots]
        # A group takes every (groups)-th column, so the maximum runs over whole vectors of columns.
        here = maxima[:, filled * groups : (filled + 1) * groups]
        torch.amax(scores.view(len(scores), group, groups), dim=1, out=here)
        filled += 1
        if filled == blocks:
            yield maxima, _members(slots, group)
            filled = 0
    if filled:
        yield maxima[:, : filled * groups], _members(slots[:filled], group)


def _group_rows(k: int) -> int:
    """Rows in a group: large groups rank fast, small ones leave less to score again."""
    return 32 if k <= 16 else 16 if k <= 48 else 8


def _block_size(queries: Tensor, rows: Tensor, group: int) -> int:
    """Rows in a block, whole groups of them, and no more than there are."""
    return min(block_rows(len(queries)) // group, -(-len(rows) // group)) * group


def _members(slots: Int64[Tensor, "blocks size"], group: int) -> Int64[Tensor, "groups members"]:
    return slots.view(len(slots), group, -1).transpose(1, 2).reshape(-1, group)


def _winners(maxima: Float[Tensor, "batch groups"], bound: Float[Tensor, " batch"], k: int, metric: str) -> Winners:
    """The groups that may hold one of the k best rows: the k best groups whose maximum beats the bound.

    ``bound`` is the k-th best score so far. After the first super-block few groups beat it, and finding those
    is cheaper than ranking all; not where counting them would make the host wait for the device.
    """
    batch, groups = maxima.shape
    if metric == "dot" and maxima.device.type == "cpu":
        better = maxima > bound[:, None]
        counts = better.sum(dim=1)
        width = int(counts.max())
        if width <= 2 * k:
            query, group = better.nonzero(as_tuple=True)
            first = counts.cumsum(0) - counts
            return Winners(query, group, torch.arange(len(query)) - first[query], width)
    width = min(k + _EUCLIDEAN_MARGIN * (metric == "euclidean"), groups)
    best = maxima.topk(width, dim=1).indices
    place = torch.arange(batch * width, device=maxima.device)
    return Winners(place // width, best.flatten(), place % width, width)


def _center(rows: Tensor, dtype: torch.dtype) -> Float[Tensor, "1 dim"]:
    """A point amid the rows: distances do not change by it, and rounding no longer grows with the offset."""
    step = max(1, rows.shape[0] // 4096)
    return rows[::step].to(dtype).mean(dim=0, keepdim=True)


def _score_again(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    selection: Selection,
    metric: str,
    members: Int64[Tensor, "groups members"],
    winners: Winners,
) -> tuple[Float[Tensor, "batch candidates"], Int64[Tensor, "batch candidates"]]:
    """Score each member of the winning groups: a candidate for its query."""
    size, dim = members.shape[1], rows.shape[1]
    scores = queries.new_full((len(queries), winners.width, size), -torch.inf)
    slots = torch.full(scores.shape, -1, dtype=torch.int64, device=scores.device)
    chunk = min(max(1, _GATHERED // (size * dim)), max(1, len(winners.query)))
    gathered = rows.new_empty(chunk * size, dim)
    for start in range(0, len(winners.query), chunk):
        query, group, rank = (part[start : start + chunk] for part in winners[:3])
        found = members[group]
        there = found.clamp_min(0)
        block = gathered[: there.numel()]
        torch.index_select(rows, 0, there.flatten(), out=block)
        exact = _exact_scores(queries[query], block.view(*there.shape, dim).to(queries.dtype), metric)
        if selection.bias is not None:
            exact += selection.bias[there].to(exact.dtype)
        gone = _left_out(selection, query, there) | (found < 0)
        scores[query, rank] = exact.masked_fill_(gone, -torch.inf)
        slots[query, rank] = found
    return scores.flatten(1), slots.flatten(1)


def _exact_scores(
    queries: Float[Tensor, "pairs dim"], rows: Float[Tensor, "pairs members dim"], metric: str
) -> Float[Tensor, "pairs members"]:
    if metric == "euclidean":
        return -(rows - queries[:, None, :]).square().sum(dim=2)
    return torch.bmm(rows, queries[:, :, None]).squeeze(2)


def _left_out(
    selection: Selection, query: Int64[Tensor, " pairs"], slots: Int64[Tensor, "pairs members"]
) -> Bool[Tensor, "pairs members"]:
    """Where the selection leaves a slot out for its query."""
    gone = torch.zeros_like(slots, dtype=torch.bool)
    for clause in selection.exclude:
        gone |= _holds(clause, query, slots)
    if selection.include:
        kept = torch.zeros_like(gone)
        for clause in selection.include:
            kept |= _holds(clause, query, slots)
        gone |= ~kept
    return gone


def _holds(clause: Clause, query: Tensor, slots: Tensor) -> Bool[Tensor, "pairs members"]:
    held = torch.ones_like(slots, dtype=torch.bool)
    for query_values, row_values in clause:
        held &= query_values[query][:, None] == row_values[slots]
    return held
