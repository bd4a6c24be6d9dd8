"""Exact nearest rows from bfloat16 products, on processors that multiply these faster.

Queries and rows are rounded to bfloat16 a block at a time, and only rank groups of rows by upper bounds of their best
true score. The bound of a block follows from what rounding took from its rows and the queries (Cauchy-Schwarz).
The leading groups are scored again in float32, and with them every other kept group whose bound still beats the k-th
best score. A query is proven where the least bound that was kept does not: no group left out can then hold
a better row. The few that are not proven are read again in float32.

Axes: batch (queries), width (groups kept for a query), members (rows of a group).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from torchbank.reads._group_maxima import best_groups, best_rows, group_rows, nearest_blocked
from torchbank.reads._products import bfloat16_pays
from torchbank.reads._score_again import score_again
from torchbank.reads._selection import Selection
from torchbank.reads._staging import take
from torchbank.reads._stream import Block

# From these on, rounding the rows and bounding what it takes costs less than the products save; for many neighbours
# most of the time goes into ranking groups and scoring them again.
_BATCH, _BATCH_OF_ROUNDED_ROWS, _DIM = 128, 16, 64
_NEIGHBORS = 32
# The unit roundoff of bfloat16, which has 8 bits of precision, and its least normal number: products flush what is
# smaller to zero.
_ROUNDOFF, _TINY = 2.0**-8, 2.0**-126
# Covers the rounding of sums and norms in float32, for dims up to a few thousand.
_SAFETY = 1 + 2.0**-9


def fits(queries: Tensor, rows: Tensor, k: int, metric: str) -> bool:
    """Whether this read is one in which bfloat16 products save time."""
    least = _BATCH_OF_ROUNDED_ROWS if rows.dtype == torch.bfloat16 else _BATCH
    return (
        queries.device.type == "cpu"
        and queries.dtype == torch.float32
        and rows.dtype != torch.float64
        and metric == "dot"
        and len(queries) >= least
        and rows.shape[1] >= _DIM
        and k <= _NEIGHBORS
        and bfloat16_pays()
    )


def nearest_by_candidates(
    queries: Float[Tensor, "batch dim"], rows: Float[Tensor, "rows dim"], k: int, selection: Selection
) -> tuple[Tensor, Tensor]:
    """Scores (batch, k) and slots (batch, k) by inner product; -inf and -1 where there are fewer than k rows."""
    best = best_groups(queries, rows, selection, _width(k), group=group_rows(k), slack=_Slack(queries, rows))
    bounds = best.maxima + _half_unit(best.maxima)
    scores = queries.new_full(best.members.shape, -torch.inf)
    leading = torch.zeros_like(bounds, dtype=torch.bool)
    leading[:, :k] = True
    _fill_again(scores, leading, queries, rows, selection, best.members)
    reached = _kth(scores, k)
    _fill_again(scores, (bounds >= reached) & ~leading, queries, rows, selection, best.members)
    values, slots = best_rows(scores.flatten(1), best.members, k)
    # Not `>`: where a bound is not a number, nothing is proven.
    unproven = (~(values[:, -1] >= bounds[:, -1]) & (bounds[:, -1] != -torch.inf)).nonzero().squeeze(1)
    if len(unproven):
        values[unproven], slots[unproven] = nearest_blocked(queries[unproven], rows, k, "dot", selection.of(unproven))
    return values, slots


def _width(k: int) -> int:
    """Groups to keep: all whose bounds reach the k-th score, as far as can be known beforehand."""
    return 2 * k + 40


def _half_unit(products: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
    """The most that rounding to bfloat16 takes from a product that comes out as this or less."""
    exponent = torch.frexp(products).exponent
    return torch.ldexp(torch.ones_like(products), exponent - 9).masked_fill_(products == -torch.inf, 0.0)


def _kth(scores: Float[Tensor, "batch width members"], k: int) -> Float[Tensor, "batch 1"]:
    return scores[:, :k].flatten(1).topk(k, dim=1).values[:, -1:]


def _fill_again(
    scores: Float[Tensor, "batch width members"],
    chosen: Tensor,
    queries: Tensor,
    rows: Tensor,
    selection: Selection,
    members: Tensor,
) -> None:
    """Write the float32 scores of the chosen groups (batch, width)."""
    query, place = chosen.nonzero(as_tuple=True)
    scores[query, place] = score_again(queries, rows, selection, query, members[query, place])


class _Slack:
    """How far a product of rounded queries and rows may lie below the true one, but for its own rounding.

    ``|q . m - q' . m'| <= |q - q'| |m| + |q'| |m - m'|`` with q' and m' rounded.
    """

    def __init__(self, queries: Float[Tensor, "batch dim"], rows: Float[Tensor, "rows dim"]) -> None:
        rounded = queries.bfloat16()
        self._rows = rows
        self._gone: Tensor | None = None
        self._lost = torch.linalg.vector_norm(queries - rounded, dim=1)
        self._norms = torch.linalg.vector_norm(queries, dim=1) + self._lost
        self._flushed = _TINY * rows.shape[1]
        # Sums of products in float32: at most dim roundings, each relative to the product of the norms.
        self._sums = rows.shape[1] * 2.0**-23

    def __call__(self, block: Block) -> Float[Tensor, " batch"]:
        true = take(self._rows, block.slots, block.rows.device)
        norm = torch.linalg.vector_norm(true, dim=1, dtype=torch.float32).amax()
        lost = self._flushed
        if true.dtype != block.rows.dtype:
            if self._gone is None:
                self._gone = torch.empty(true.shape, device=true.device)
            gone = torch.sub(true, block.rows, out=self._gone[: len(true)])
            lost = lost + torch.linalg.vector_norm(gone, dim=1).amax()
        relative = self._sums if block.bias is None else self._sums + _ROUNDOFF
        slack = (self._lost + self._flushed) * norm + self._norms * (lost + relative * norm) + self._flushed
        return slack * _SAFETY
