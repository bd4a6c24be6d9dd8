"""Exact nearest rows by group maxima.

The k best rows of a query lie in the k groups with the best maxima: a row outside them is beaten by the
maximum of each. So a block's scores are reduced to the maximum of each group while they are in the cache, the
groups are ranked, and only the winning groups are scored again. Running winners over super-blocks keep the
maxima O(batch); a group is read again only if its maximum beats the k-th best score so far.

Axes: batch (queries), groups, members (rows of a group), pairs (a query and a group to read again).
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torchbank.reads._reference import compute_dtype
from torchbank.reads._selection import Clause, Selection
from torchbank.reads._stream import block_rows, stream

# Group maxima kept before they are ranked (4 MB in float32): groups of 131,072 rows at batch 256, k 10.
_MAXIMA_A_SUPER_BLOCK = 1 << 20
# Values gathered at a time when groups are scored again (8 MB in float32).
_GATHERED = 1 << 21
# Inner products rank Euclidean neighbours up to rounding, so that many more groups are scored again.
_EUCLIDEAN_MARGIN = 8


def nearest_blocked(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    k: int,
    metric: str,
    selection: Selection,
) -> tuple[Tensor, Tensor]:
    """Scores (batch, k) and slots (batch, k); -inf and -1 where there are fewer than k rows."""
    queries = queries.to(compute_dtype(queries))
    scores = queries.new_full((queries.shape[0], k), -torch.inf)
    slots = torch.full(scores.shape, -1, dtype=torch.int64, device=scores.device)
    if not queries.shape[0] or not rows.shape[0]:
        return scores, slots
    margin = _EUCLIDEAN_MARGIN if metric == "euclidean" else 0
    for maxima, members in _super_blocks(queries, rows, selection, k, metric):
        top = maxima.topk(min(k + margin, maxima.shape[1]), dim=1)
        wanted = top.values > (scores[:, -1:] if margin == 0 else -torch.inf)
        again, again_slots = _score_again(queries, rows, selection, metric, members[top.indices], wanted)
        merged = torch.cat([scores, again], dim=1).topk(k, dim=1)
        scores = merged.values
        slots = torch.cat([slots, again_slots], dim=1).gather(1, merged.indices)
    return scores, slots.masked_fill(scores == -torch.inf, -1)


def _super_blocks(
    queries: Tensor, rows: Tensor, selection: Selection, k: int, metric: str
) -> Iterator[tuple[Float[Tensor, "batch groups"], Int64[Tensor, "groups members"]]]:
    """Yield the group maxima of one run of the bank after another, with the slots of each group (-1: none)."""
    group = _group_rows(k)
    size = max(group, block_rows(queries.shape[0]) // group * group)
    size = min(size, -(-rows.shape[0] // group) * group)
    groups = size // group
    blocks = max(1, _MAXIMA_A_SUPER_BLOCK // queries.shape[0] // groups)
    blocks = min(blocks, -(-rows.shape[0] // size))
    maxima = queries.new_empty(queries.shape[0], blocks * groups)
    members = torch.empty(blocks * groups, group, dtype=torch.int64, device=rows.device)
    filled = 0
    center = _center(rows, queries.dtype) if metric == "euclidean" else None
    for block in stream(queries, rows, selection, size=size, center=center):
        scores, slots = block.scores, block.slots
        if block.bias is not None:
            scores += block.bias
        block.leave_out(scores, -torch.inf)
        if isinstance(slots, slice):
            slots = torch.arange(slots.start, slots.stop, device=rows.device)
        missing = -len(slots) % group
        if missing:
            scores = torch.nn.functional.pad(scores, (0, missing), value=-torch.inf)
            slots = torch.nn.functional.pad(slots, (0, missing), value=-1)
        # A group takes every (groups)-th column, so the maximum runs over whole vectors of columns.
        here = slice(filled, filled + len(slots) // group)
        maxima[:, here] = scores.view(len(scores), group, -1).amax(dim=1)
        members[here] = slots.view(group, -1).T
        filled = here.stop
        if filled + groups > maxima.shape[1]:
            yield maxima[:, :filled], members[:filled]
            filled = 0
    if filled:
        yield maxima[:, :filled], members[:filled]


def _group_rows(k: int) -> int:
    """Rows in a group: large groups rank fast, small ones leave less to score again."""
    return 32 if k <= 16 else 16 if k <= 48 else 8


def _center(rows: Tensor, dtype: torch.dtype) -> Float[Tensor, "1 dim"]:
    """A point amid the rows: distances do not change by it, and rounding no longer grows with the offset."""
    step = max(1, rows.shape[0] // 4096)
    return rows[::step].to(dtype).mean(dim=0, keepdim=True)


def _score_again(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    selection: Selection,
    metric: str,
    members: Int64[Tensor, "batch top members"],
    wanted: Bool[Tensor, "batch top"],
) -> tuple[Float[Tensor, "batch candidates"], Int64[Tensor, "batch candidates"]]:
    """Score each member of the wanted groups: a candidate for its query, -inf for all others."""
    scores = queries.new_full(members.shape, -torch.inf)
    query, rank = wanted.nonzero(as_tuple=True)
    chunk = max(1, _GATHERED // (members.shape[2] * rows.shape[1]))
    for start in range(0, len(query), chunk):
        q, r = query[start : start + chunk], rank[start : start + chunk]
        slots = members[q, r]
        there = slots.clamp_min(0)
        block = rows[there].to(queries.dtype)
        if metric == "euclidean":
            found = -(block - queries[q][:, None, :]).square().sum(dim=2)
        else:
            found = torch.bmm(block, queries[q][:, :, None]).squeeze(2)
        if selection.bias is not None:
            found += selection.bias[there].to(found.dtype)
        gone = _left_out(selection, q, there) | (slots < 0)
        scores[q, r] = found.masked_fill_(gone, -torch.inf)
    return scores.flatten(1), members.flatten(1)


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
