"""The hinges of all triplets of a query, a positive and a negative, without a list of the triplets.

A hinge ``max(0, s_n - s_p + margin)`` is linear in both scores where it is active, so the sum over triplets is
``sum_j slope_j s_j + margin count`` with whole numbers as slopes: how many positives a negative comes too close to, and
how many negatives come too close to a positive. With the positives sorted, a binary search gives the first, and a
histogram of the places that were found gives the second. Value and gradient cost O(pairs x log positives).

Axes: batch (queries), pairs (a query with one of its positives), positives (places by ascending score), columns
(negatives).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pad


class SortedPositives(NamedTuple):
    """The positives of each query by ascending score.

    Attributes:
        scores: ``(batch, positives)``, inf beyond the last.
        weights: ``(batch, positives)``, 0 beyond the last; None is 1 for all.
    """

    scores: Float[Tensor, "batch positives"]
    weights: Float[Tensor, "batch positives"] | None


def sorted_positives(
    query: Int64[Tensor, " pairs"], scores: Float[Tensor, " pairs"], weights: Float[Tensor, " pairs"] | None, batch: int
) -> tuple[SortedPositives, Int64[Tensor, " pairs"]]:
    """The pairs as a table, and the place of each in its query's line."""
    order = scores.argsort()
    order = order[query[order].argsort(stable=True)]
    counts = query.bincount(minlength=batch)
    first = counts.cumsum(dim=0) - counts
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device) - first[query[order]]
    table = scores.new_full((batch, int(counts.max())), torch.inf)
    table[query, place] = scores
    if weights is None:
        return SortedPositives(table, None), place
    weight_table = torch.zeros_like(table)
    weight_table[query, place] = weights
    return SortedPositives(table, weight_table), place


class Hinges:
    """Triplets of some positives with negatives that come a block at a time.

    Args:
        positives: The positives.
        margin: How far a positive must be ahead of a negative.
        semi_hard: Whether a negative counts only below the positive.

    Attributes:
        floor: ``(batch, 1)``, the score up to which a negative comes too close to no positive.
        count: ``(batch,)`` float64, the weight of the active triplets so far.
    """

    def __init__(self, positives: SortedPositives, margin: float, semi_hard: bool) -> None:
        scores, weights = positives
        self._positives = positives
        self._margin = margin
        self._semi_hard = semi_hard
        # The weight of the positives before each place. float64, as differences of these sums are taken.
        self._before = None if weights is None else pad(weights.double().cumsum(dim=1), (1, 0))
        self._histogram = scores.new_zeros(len(scores), scores.shape[1] + 1, dtype=torch.float64)
        self._of_negatives = scores.new_zeros(len(scores), dtype=torch.float64)
        self.count = torch.zeros_like(self._of_negatives)
        self.floor = scores[:, :1] - margin

    def add(
        self, scores: Float[Tensor, "batch columns"], weights: Float[Tensor, " columns"] | None
    ) -> Float[Tensor, "batch columns"]:
        """Add negatives; returns their slopes.

        Args:
            scores: The lowest finite number where a negative is left out for a query.
            weights: Of the negatives; None is 1 for all.
        """
        each = scores.new_ones((), dtype=torch.float64) if weights is None else weights.double()
        each = each.expand_as(scores)
        # Positives are too close below the score plus the margin, and, if semi-hard, above the score.
        last = torch.searchsorted(self._positives.scores, (scores + self._margin).contiguous())
        self._histogram.scatter_add_(1, last, each)
        slopes = self._weight_before(last)
        if self._semi_hard:
            first = torch.searchsorted(self._positives.scores, scores.contiguous(), right=True)
            self._histogram.scatter_add_(1, first, -each)
            slopes = slopes - self._weight_before(first)
        slopes = slopes.to(scores.dtype) if weights is None else slopes.to(scores.dtype) * weights
        self.count += slopes.sum(dim=1, dtype=torch.float64)
        self._of_negatives += (slopes * scores).sum(dim=1, dtype=torch.float64)
        return slopes

    def add_up(self, total: Callable[[Tensor], Tensor]) -> None:
        """Take in what was added elsewhere to hinges of the same positives; ``total`` sums over all of them."""
        self._histogram = total(self._histogram)
        self._of_negatives = total(self._of_negatives)
        self.count = total(self.count)

    def slopes_of_positives(self) -> Float[Tensor, "batch positives"]:
        """Minus the weight of the negatives that come too close to each positive; 0 beyond the last."""
        scores, weights = self._positives
        closer = -self._histogram.flip(1).cumsum(dim=1).flip(1)[:, 1:]
        return (closer if weights is None else closer * weights).to(scores.dtype)

    def value(self) -> Float[Tensor, " batch"]:
        """The sum of all hinges so far, float64."""
        scores = self._positives.scores
        of_positives = self.slopes_of_positives() * scores.masked_fill(scores == torch.inf, 0.0)
        return self._of_negatives + of_positives.sum(dim=1, dtype=torch.float64) + self._margin * self.count

    def _weight_before(self, places: Int64[Tensor, "batch columns"]) -> Tensor:
        return places if self._before is None else self._before.gather(1, places)
