"""Candidates of `nearest` scored again in full precision.

Axes: batch (queries), pairs (of a query and a group of rows), members (rows of a group).
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torchbank.reads._selection import Clause, Selection
from torchbank.reads._staging import gather, take

# Values gathered at a time (8 MB in float32).
_GATHERED = 1 << 21


def score_again(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    selection: Selection,
    query: Int64[Tensor, " pairs"],
    members: Int64[Tensor, "pairs members"],
    *,
    metric: str = "dot",
) -> Float[Tensor, "pairs members"]:
    """Score each member of a group for the query of its pair; -inf where it is left out or is slot -1."""
    size, dim = members.shape[1], rows.shape[1]
    scores = queries.new_empty(members.shape)
    chunk = max(1, min(_GATHERED // (size * dim), len(query)))
    gathered = rows.new_empty(chunk * size, dim)
    for start in range(0, len(query), chunk):
        run = slice(start, start + chunk)
        found = members[run]
        there = found.clamp_min(0)
        block = gathered[: there.numel()]
        gather(rows, there.flatten(), out=block)
        block = block.view(*there.shape, dim).to(queries.device, queries.dtype)
        exact = _exact_scores(queries[query[run]], block, metric)
        if selection.bias is not None:
            exact += selection.bias[there].to(exact.dtype)
        gone = _left_out(selection, query[run], there) | (found < 0)
        scores[run] = exact.masked_fill_(gone, -torch.inf)
    return scores


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
