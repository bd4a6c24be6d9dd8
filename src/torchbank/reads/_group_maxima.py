"""Exact nearest rows by group maxima.

The k best rows of a query lie in the k groups with the best maxima: a row outside them is beaten by the
maximum of each. So a block's scores are reduced to the maximum of each group while they are in the cache, and the
best groups so far are kept, O(batch). Only the groups that win in the end are scored again.

Axes: batch (queries), groups, members (rows of a group), width (groups kept for a query).
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from torchbank.reads._selection import Clause, Selection
from torchbank.reads._staging import gather, resident_rows, take
from torchbank.reads._stream import block_rows, stream

# Up to this many neighbours, groups are large and few maxima wait to be ranked: 4 MB of them in float32, which are
# the groups of 131,072 rows at batch 256. Beyond, more is ranked at a time: ranking costs more than reading.
_FEW_NEIGHBORS = 16
_MAXIMA_FOR_FEW, _MAXIMA = 1 << 20, 1 << 22
# Scores that are written and ranked whole (16 MB in float32): below this, groups cost more than they save.
WHOLE = 1 << 22
# Values gathered at a time when groups are scored again (8 MB in float32).
_GATHERED = 1 << 21
# Inner products rank Euclidean neighbours up to rounding, so that many more groups are scored again.
_EUCLIDEAN_MARGIN = 8


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
    best = _best_groups(queries, rows, selection, width, metric)
    scores = _score_again(queries, rows, selection, metric, best.members).flatten(1)
    chosen = scores.topk(k, dim=1)
    slots = best.members.flatten(1).gather(1, chosen.indices)
    return chosen.values, slots.masked_fill(chosen.values == -torch.inf, -1)


def nearest_of_few(
    queries: Float[Tensor, "batch dim"], rows: Float[Tensor, "rows dim"], k: int, selection: Selection
) -> tuple[Tensor, Tensor]:
    """Rank all scores: for a small batch or a small bank."""
    scores = queries.new_empty(len(queries), len(rows))
    if selection.include:
        scores.fill_(-torch.inf)
    # In few products where no row needs converting: a batch of 1 is bound by reading the bank.
    size = resident_rows(rows) if rows.dtype == queries.dtype else None
    for block in stream(queries, rows, selection, size=size, contiguous="row"):
        if block.bias is not None:
            block.scores.add_(block.bias)
        block.leave_out(-torch.inf, block.scores)
        scores[:, block.slots] = block.scores
    best = scores.topk(min(k, len(rows)), dim=1)
    slots = best.indices.masked_fill(best.values == -torch.inf, -1)
    missing = (0, k - slots.shape[1])
    return pad(best.values, missing, value=-torch.inf), pad(slots, missing, value=-1)


def _best_groups(queries: Tensor, rows: Tensor, selection: Selection, width: int, metric: str) -> BestGroups:
    """One pass over the bank: the ``width`` groups with the best maxima."""
    group = _group_rows(width)
    maxima = queries.new_full((len(queries), width), -torch.inf)
    members = torch.full((len(queries), width, group), -1, dtype=torch.int64, device=queries.device)
    kept = _MAXIMA_FOR_FEW if width <= _FEW_NEIGHBORS else _MAXIMA
    for found, slots in _super_blocks(queries, rows, selection, group, kept, metric):
        here = found.T.contiguous().topk(min(width, len(found)), dim=1)
        merged = torch.cat([maxima, here.values], dim=1).topk(width, dim=1)
        maxima = merged.values
        members = torch.cat([members, slots[here.indices]], dim=1)
        members = members.gather(1, merged.indices[:, :, None].expand(-1, -1, group))
    return BestGroups(maxima, members)


def _super_blocks(
    queries: Tensor, rows: Tensor, selection: Selection, group: int, kept: int, metric: str
) -> Iterator[tuple[Float[Tensor, "groups batch"], Int64[Tensor, "groups members"]]]:
    """Yield the group maxima of one run of the bank after another, with the slots of each group (-1: none)."""
    batch = len(queries)
    size = _block_size(queries, rows, group)
    groups = size // group
    blocks = min(max(1, kept // (batch * groups)), -(-rows.shape[0] // size))
    maxima = queries.new_empty(blocks * groups, batch)
    center = _center(rows, queries) if metric == "euclidean" else None
    read: list[slice | Tensor] = []
    # Scores of one row lie together, so the maximum over the rows of a group runs over whole vectors of queries.
    for block in stream(queries, rows, selection, size=size, center=center, contiguous="row"):
        scores = block.scores
        if block.bias is not None:
            scores += block.bias
        block.leave_out(-torch.inf, scores)
        by_row = scores.T
        if len(by_row) < size:
            by_row = pad(by_row, (0, 0, 0, size - len(by_row)), value=-torch.inf)
        here = maxima[len(read) * groups : (len(read) + 1) * groups]
        torch.amax(by_row.view(groups, group, batch), dim=1, out=here)
        read.append(block.slots)
        if len(read) == blocks:
            yield maxima, _members(read, size, group, queries.device)
            read = []
    if read:
        yield maxima[: len(read) * groups], _members(read, size, group, queries.device)


def _group_rows(width: int) -> int:
    """Rows in a group: large groups rank fast, small ones leave less to score again."""
    return 32 if width <= _FEW_NEIGHBORS else 16


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


def _center(rows: Tensor, queries: Tensor) -> Float[Tensor, "1 dim"]:
    """A point amid the rows: distances do not change by it, and rounding no longer grows with the offset."""
    step = max(1, rows.shape[0] // 4096)
    some = take(rows, torch.arange(0, rows.shape[0], step, device=rows.device), queries.device)
    return some.to(queries.dtype).mean(dim=0, keepdim=True)


def _score_again(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    selection: Selection,
    metric: str,
    members: Int64[Tensor, "batch width members"],
) -> Float[Tensor, "batch width members"]:
    """Score each member of the groups a query kept."""
    size, dim = members.shape[2], rows.shape[1]
    query = torch.arange(len(queries), device=queries.device).repeat_interleave(members.shape[1])
    scores = queries.new_empty(len(query), size)
    chunk = max(1, min(_GATHERED // (size * dim), len(query)))
    gathered = rows.new_empty(chunk * size, dim)
    for start in range(0, len(query), chunk):
        run = slice(start, start + chunk)
        found = members.flatten(0, 1)[run]
        there = found.clamp_min(0)
        block = gathered[: there.numel()]
        gather(rows, there.flatten(), out=block)
        block = block.view(*there.shape, dim).to(queries.device, queries.dtype)
        exact = _exact_scores(queries[query[run]], block, metric)
        if selection.bias is not None:
            exact += selection.bias[there].to(exact.dtype)
        gone = _left_out(selection, query[run], there) | (found < 0)
        scores[run] = exact.masked_fill_(gone, -torch.inf)
    return scores.view(members.shape)


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
        held &= query_values[query][:, None] == take(row_values, slots, query.device)
    return held
