"""The reads of rows that lie on several ranks: those of `torchbank.reads`, with the same arguments.

The queries of all ranks go to every rank, each reads its own rows for all of them, and the answers go back to the rank
that asked, which merges them. The rows are constants in a loss, and each rank's loss asks with its own queries: what
the gradient needs comes back with the answers, and the backward pass sends nothing.

Axes: batch (queries of this rank), everyone (queries of all ranks), ranks (parts of an answer).
"""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torchbank import reads
from torchbank.reads import Match, Neighbors, PairFunction, PairSum, PositivePairs, Readout, Selection
from torchbank.sharding._collectives import Ranks


class MergedReads:
    """Reads one rank's rows and those of the other ranks as one table.

    Args:
        ranks: Who has rows; all of them read at the same time.
        part: Which rows of the table are this rank's.
    """

    def __init__(self, ranks: Ranks, part: slice | Int64[Tensor, " rows"]) -> None:
        self._ranks = ranks
        self._part = part

    def attend(
        self, queries: Tensor, rows: Tensor, *, scale: float | Tensor, selection: Selection, **how: Any
    ) -> Readout:
        """See `torchbank.reads.attend`; log-sum-exps add up, readouts are weighted by them."""
        with torch.no_grad():
            asked = self._ask(queries, selection)
            fixed = scale.detach() if isinstance(scale, Tensor) else scale
            found = reads.attend(asked.queries, rows, scale=fixed, selection=asked.selection, **how)
            lses, readouts = self._ranks.answer(asked.sizes, *found)
            lse = lses.logsumexp(dim=0)
            weights = (lses - lse.masked_fill(lse == -torch.inf, 0.0)).exp()
            readout = (weights[:, :, None] * readouts).sum(dim=0)
        if not isinstance(scale, Tensor):
            return Readout(_tied(lse, queries, scale * readout), readout)
        by_scale = (queries.detach().to(lse.dtype) * readout).sum(dim=1)
        return Readout(_tied(lse, queries, scale.detach().to(lse.dtype) * readout, scale, by_scale), readout)

    def nearest(self, queries: Tensor, rows: Tensor, k: int, *, selection: Selection, **how: Any) -> Neighbors:
        """See `torchbank.reads.nearest`; the k best of each rank's k best."""
        with torch.no_grad():
            asked = self._ask(queries, selection)
            found = reads.nearest(asked.queries, rows, k, selection=asked.selection, **how)
            scores, slots = self._ranks.answer(asked.sizes, found.scores, self._whole_slots(found.slots))
            scores, best = scores.transpose(0, 1).flatten(1).topk(k, dim=1)
            slots = slots.transpose(0, 1).flatten(1).gather(1, best)
        return Neighbors(scores, slots, slots >= 0)

    def pair_sum(
        self,
        queries: Tensor,
        rows: Tensor,
        f: PairFunction,
        *,
        selection: Selection,
        labels: Match | None = None,
        **how: Any,
    ) -> PairSum:
        """See `torchbank.reads.pair_sum`; sums add up, and so do their gradients."""
        asked = self._ask(queries, selection, *f.per_query, *(() if labels is None else labels[:1]))
        if f.per_query:
            f = f.with_parameters(*f.numbers, *asked.values[: len(f.per_query)])
        if labels is not None:
            labels = asked.values[-1], labels[1]
        learns = torch.is_grad_enabled() and queries.requires_grad
        with torch.enable_grad():
            leaf = asked.queries.requires_grad_(learns)
            found = reads.pair_sum(leaf, rows, f, labels=labels, selection=asked.selection, **how)
        if not learns:
            return PairSum(*(part.sum(dim=0) for part in self._ranks.answer(asked.sizes, *found)))
        (gradient,) = torch.autograd.grad(found.value.sum(), leaf)
        value, count, gradient = (
            part.sum(dim=0) for part in self._ranks.answer(asked.sizes, found.value, found.count, gradient)
        )
        return PairSum(_tied(value, queries, gradient), count)

    def triplet_sum(
        self,
        queries: Tensor,
        rows: Tensor,
        *,
        labels: Match,
        margin: float,
        mining: reads.Mining,
        selection: Selection,
        **how: Any,
    ) -> PairSum:
        """See `torchbank.reads.triplet_sum`; the scores of positives go to all ranks, whose negatives meet them."""
        if mining == "hardest":
            return self._hardest(queries, rows, labels, margin, selection, **how)
        with torch.no_grad():
            asked = self._ask(queries, selection, labels[0])
            value, count, gradient = reads.triplet_sum_of_parts(
                asked.queries,
                rows,
                labels=(asked.values[0], labels[1]),
                margin=margin,
                mining=mining,
                selection=asked.selection,
                others=_OtherRanks(self._ranks),
            )
            (gradients,) = self._ranks.answer(asked.sizes, gradient)
            value, count = (part.split(asked.sizes)[self._ranks.rank] for part in (value, count))
        return PairSum(_tied(value, queries, gradients.sum(dim=0)), count)

    def _hardest(
        self, queries: Tensor, rows: Tensor, labels: Match, margin: float, selection: Selection, **how: Any
    ) -> PairSum:
        """The lowest positive and the highest negative, each found on all ranks."""
        # Mining looks at the scores alone: of a bias only the rows that it removes count.
        bias = selection.bias
        gone = None if bias is None else torch.zeros_like(bias).masked_fill(bias == -torch.inf, -torch.inf)
        include = tuple((*clause, labels) for clause in selection.include) or ((labels,),)
        positives = replace(selection, bias=gone, include=include)
        negatives = replace(selection, bias=gone, exclude=(*selection.exclude, (labels,)))
        lowest, highest = (
            self._best(sign * queries.detach(), rows, chosen, bias, **how)
            for sign, chosen in ((-1, positives), (1, negatives))
        )
        difference = highest.rows - lowest.rows
        weight = torch.where(lowest.found & highest.found, (lowest.bias + highest.bias).exp(), 0.0)
        hinge = (queries.to(difference.dtype) * difference).sum(dim=1) + margin
        count = weight * (hinge.detach() > 0)
        return PairSum(count * hinge, count)

    def _best(self, queries: Tensor, rows: Tensor, selection: Selection, bias: Tensor | None, **how: Any) -> "_Best":
        """The best row of all ranks for each query, with its bias."""
        with torch.no_grad():
            asked = self._ask(queries, selection)
            found = reads.nearest(asked.queries, rows, 1, selection=asked.selection, **how)
            scores, slots = found.scores[:, 0], found.slots[:, 0].clamp_min(0)
            if len(rows):
                best = reads.take(rows, slots, scores.device).to(scores.dtype)
                weights = torch.zeros_like(scores) if bias is None else bias[slots].to(scores.dtype)
            else:
                best, weights = scores.new_zeros(len(scores), rows.shape[1]), torch.zeros_like(scores)
            parts, best, weights = self._ranks.answer(asked.sizes, scores, best, weights)
            scores, winner = parts.max(dim=0)
            place = torch.arange(len(queries), device=winner.device)
            return _Best(best[winner, place], weights[winner, place], scores > -torch.inf)

    def _ask(self, queries: Tensor, selection: Selection, *values: Tensor) -> "_Asked":
        """The queries of all ranks with everything that is given for each of them, in one message."""
        clauses = (*selection.exclude, *selection.include)
        matches = [match for clause in clauses for match in clause]
        mine = [queries, *(query_values for query_values, _ in matches), *values]
        (gathered, *others), sizes = self._ranks.gather(*(each.detach() for each in mine))
        everyone = iter([(query, row) for query, (_, row) in zip(others, matches, strict=False)])
        exclude, include = (
            tuple(tuple(next(everyone) for _ in clause) for clause in part)
            for part in (selection.exclude, selection.include)
        )
        return _Asked(
            gathered,
            replace(selection, exclude=exclude, include=include),
            others[len(matches) :],
            sizes,
        )

    def _whole_slots(self, slots: Int64[Tensor, "everyone k"]) -> Int64[Tensor, "everyone k"]:
        """Rows of this rank as rows of the table."""
        if isinstance(self._part, slice):
            places = slots * self._part.step + self._part.start
        else:
            places = self._part[slots.clamp_min(0)] if len(self._part) else slots
        return torch.where(slots >= 0, places, slots)


class _OtherRanks:
    """The ranks as `torchbank.reads.triplet_sum_of_parts` asks for them."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any rank's flag is set."""
        return bool(self._ranks.total(torch.full((), int(flag), device=device)))

    def join(self, pairs: PositivePairs) -> tuple[PositivePairs, slice]:
        """The pairs of all ranks, which are of different numbers."""
        columns = [column for column in pairs if column is not None]
        (query, scores, *weights), sizes = self._ranks.gather(*columns, uneven=True)
        begin = sum(sizes[: self._ranks.rank])
        return PositivePairs(query, scores, *weights or [None]), slice(begin, begin + sizes[self._ranks.rank])

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks."""
        return self._ranks.total(values)


class _Asked(NamedTuple):
    """A read for the queries of all ranks."""

    queries: Float[Tensor, "everyone dim"]
    selection: Selection
    values: list[Tensor]
    sizes: list[int]


class _Best(NamedTuple):
    """One row for each query: its embedding, its bias and whether there is one."""

    rows: Float[Tensor, "batch dim"]
    bias: Float[Tensor, " batch"]
    found: Tensor


def _tied(
    value: Float[Tensor, " batch"],
    queries: Float[Tensor, "batch dim"],
    gradient: Float[Tensor, "batch dim"],
    scale: Tensor | None = None,
    by_scale: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, " batch"]:
    """``value`` with known gradients by the queries and the scale."""
    return _Tied.apply(value, queries, gradient, scale, by_scale)


class _Tied(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value: Tensor, queries: Tensor, gradient: Tensor, scale: Tensor | None, by_scale: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(value, queries, gradient, by_scale)
        ctx.scale_dtype = None if scale is None else scale.dtype
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        value, queries, gradient, by_scale = ctx.saved_tensors
        # A query that saw no row has no gradient, whatever a loss made of its -inf.
        grad = gradients[0].masked_fill(value == -torch.inf, 0.0)
        by_queries = reads.first_order_only((grad[:, None] * gradient).to(queries.dtype), queries)
        total = None
        if ctx.needs_input_grad[3]:
            total = reads.first_order_only((grad * by_scale).sum().to(ctx.scale_dtype), queries)
        return None, by_queries, None, total, None
