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
) -> Iterator[tuple[Float[Tensor, "groups batch"], Int64[Tensor, "groups members"]]]:
    """Yield the group maxima of one run of the bank after another, with the slots of each group (-1: none)."""
    batch, group = len(queries), _group_rows(k)
    size = _block_size(queries, rows, group)
    groups = size // group
    blocks = min(max(1, _MAXIMA // (batch * groups)), -(-rows.shape[0] // size))
    maxima = queries.new_empty(blocks * groups, batch)
    center = _center(rows, queries.dtype) if metric == "euclidean" else None
    read: list[slice | Tensor] = []
    # Scores of one row lie together, so the maximum over the rows of a group runs over whole vectors of queries.
    for block in stream(queries, rows, selection, size=size, center=center, contiguous="row"):
        scores = block.scores
        if block.bias is not None:
            scores += block.bias
        block.leave_out(-torch.inf, scores)
        by_row = scores.T
        if len(by_row) < size:
            by_row = torch.nn.functional.pad(by_row, (0, 0, 0, size - len(by_row)), value=-torch.inf)
        here = maxima[len(read) * groups : (len(read) + 1) * groups]
        torch.amax(by_row.view(groups, group, batch), dim=1, out=here)
        read.append(block.slots)
        if len(read) == blocks:
            yield maxima, _members(read, size, group, rows.device)
            read = []
    if read:
        yield maxima[: len(read) * groups], _members(read, size, group, rows.device)


def _group_rows(k: int) -> int:
    """Rows in a group: large groups rank fast, small ones leave less to score again."""
    return 32 if k <= 16 else 16 if k <= 48 else 8


def _block_size(queries: Tensor, rows: Tensor, group: int) -> int:
    """Rows in a block, whole groups of them, and no more than there are."""
    return min(block_rows(len(queries)) // group, -(-len(rows) // group)) * group


def _members(
    read: list[slice | Tensor], size: int, group: int, device: torch.device
) -> Int64[Tensor, "groups members"]:
    """The slots of each group of the blocks that were read; -1 beyond the end of a block."""
    slots = torch.full((len(read), size), -1, dtype=torch.int64, device=device)
    for row, block in zip(slots, read, strict=True):
        if isinstance(block, slice):
            torch.arange(block.start, block.stop, out=row[: block.stop - block.start])
        else:
            row[: len(block)] = block
    return slots.view(-1, group)


def _winners(maxima: Float[Tensor, "groups batch"], bound: Float[Tensor, " batch"], k: int, metric: str) -> Winners:
    """The groups that may hold one of the k best rows: the k best groups whose maximum beats the bound.

    ``bound`` is the k-th best score so far. After the first super-block few groups beat it, and finding those
    is cheaper than ranking all; not where counting them would make the host wait for the device.
    """
    groups, batch = maxima.shape
    if metric == "dot" and maxima.device.type == "cpu" and bool((bound > -torch.inf).all()):
        better = maxima > bound
        if int(better.count_nonzero()) <= 2 * k * batch:
            group, query = better.nonzero(as_tuple=True)
            query, order = query.sort(stable=True)
            counts = query.bincount(minlength=batch)
            width = int(counts.max())
            if width <= 4 * k:
                first = counts.cumsum(0) - counts
                return Winners(query, group[order], torch.arange(len(query)) - first[query], width)
    width = min(k + _EUCLIDEAN_MARGIN * (metric == "euclidean"), groups)
    best = maxima.T.contiguous().topk(width, dim=1).indices
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
