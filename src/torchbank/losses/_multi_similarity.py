"""The multi-similarity loss: the pairs that contradict each other, weighed against each other."""

from typing import Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from torchbank import reads
from torchbank.errors import BankValueError, check_choice
from torchbank.losses._doors import check_embeddings, check_lengths, widened, without_autocast
from torchbank.losses._reduction import Reduction, reduced
from torchbank.losses._sources import BatchRows, RowSelection, RowSource, excluding, only_label


def _pull(scores: Tensor, _: Tensor, alpha: float, base: float, shift: Tensor, ceiling: Tensor) -> Tensor:
    # No kept pair's exponent is above 0; what is left out is bounded so that it has no infinite gradient.
    weights = (-alpha * (scores - base) - shift).clamp_max(1.0).exp()
    return torch.where(scores < ceiling, weights, 0.0)


def _push(scores: Tensor, _: Tensor, beta: float, base: float, shift: Tensor, floor: Tensor) -> Tensor:
    weights = (beta * (scores - base) - shift).clamp_max(1.0).exp()
    return torch.where(scores > floor, weights, 0.0)


_PULL = reads.PairFunction(
    "multi_similarity_pull", _pull, lambda scores, same, alpha, *more: -alpha * _pull(scores, same, alpha, *more)
)
_PUSH = reads.PairFunction(
    "multi_similarity_push",
    _push,
    lambda scores, same, beta, *more: beta * _push(scores, same, beta, *more),
    zero_up_to=lambda beta, base, shift, floor: floor,  # noqa: ARG005
)


def multi_similarity(
    queries: Tensor,
    bank: RowSource | None,
    *,
    labels: Tensor,
    ids: Tensor | None = None,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    epsilon: float = 0.1,
    reduction: Reduction = "mean",
    **selection: Unpack[RowSelection],
) -> Tensor:
    """The multi-similarity loss ([Wang et al. 2019](arXiv:1904.06627)), over a bank or the batch.

    ``1/alpha log(1 + sum_p exp(-alpha (s_p - base))) + 1/beta log(1 + sum_n exp(beta (s_n - base)))`` for each query,
    over the pairs that the paper's mining keeps: a negative scores above the lowest positive less
    ``epsilon``, a positive below the highest negative plus ``epsilon``. Two reads find the extremes and two sum
    over what they leave; no (batch x rows) matrix exists, and the exponentials are scaled by the extremes, so that
    none overflows. Which pairs are kept is a constant to autograd.

    Under ``half_life`` and ``bias`` a pair counts in its sum with the weight of its row; they do not change what is
    mined.

    Args:
        queries: ``(batch, dim)`` floating; normalised here if the bank's metric is ``"cosine"``.
        bank: A bank with a field ``label``; None is the batch itself, compared by cosine, with gradient to
            both sides and self-pairs left out by position.
        labels: ``(batch,)``, compared with the field ``label``.
        ids: ``(batch,)``, compared with the field ``id``: rows of the same id are left out, as own copies.
        alpha: How sharply positives are weighed, above 0.
        beta: How sharply negatives are weighed, above 0.
        base: The similarity (lambda) that positives should be above and negatives below. The paper's text has 1, its
            code 0.5.
        epsilon: The mining margin; infinity keeps all pairs of the queries that have positives and negatives.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``.
        **selection: Row selection, as in the bank's reads: ``exclude``, ``include``, ``max_age``,
            ``half_life``, ``bias``, ``step``.

    Returns:
        The loss, 0-d, or ``(batch,)`` for ``"none"``; 0 for a query without positives or without negatives.
        float32, or float64 for float64 queries.

    Raises:
        BankValueError: Shapes do not fit, a word is unknown, or ``alpha`` or ``beta`` is not above 0.
        BankTypeError: Queries are not floating.
        BankKeyError: The bank has no field ``label``, or no field ``id`` where ``ids`` are given.
        BankStateError: On differentiating twice through a bank.

    Example:
        >>> import torch
        >>> import torchbank as tb
        >>> bank = tb.MemoryBank(4096, 8, fields={"label": torch.int64})
        >>> _ = bank.push(torch.randn(100, 8), label=torch.arange(100) % 10)
        >>> queries, labels = torch.randn(4, 8, requires_grad=True), torch.tensor([0, 0, 1, 2])
        >>> loss = tb.losses.multi_similarity(queries, bank, labels=labels)
        >>> loss.backward()
    """
    check_embeddings("queries", queries)
    check_lengths(queries, labels=labels, ids=ids)
    check_choice("reduction", reduction, "mean", "sum", "none")
    for word, value in (("alpha", alpha), ("beta", beta)):
        if not value > 0:
            msg = f"{word}={value}; expected a number above 0"
            raise BankValueError(msg)
    with without_autocast(queries):
        queries = widened(queries)
        rows = BatchRows(queries) if bank is None else bank
        seen = excluding(selection, id=ids)
        same, other = only_label(seen, labels), excluding(seen, label=labels)
        lowest = -rows.nearest(-queries, 1, **_unweighted(same)).scores[:, 0]
        highest = rows.nearest(queries, 1, **_unweighted(other)).scores[:, 0]
        # Infinite on one side without rows on the other, so that nothing is kept.
        ceiling = torch.where(highest == -torch.inf, highest, highest + epsilon)
        floor = torch.where(lowest == torch.inf, lowest, lowest - epsilon)
        shift = (-alpha * (lowest - base)).clamp_min(0)
        positives = rows.pair_sum(queries, _PULL.with_parameters(alpha, base, shift, ceiling), **same)
        values = _log_of_one_and(positives, shift) / alpha
        shift = (beta * (highest - base)).clamp_min(0)
        negatives = rows.pair_sum(queries, _PUSH.with_parameters(beta, base, shift, floor), **other)
        values = values + _log_of_one_and(negatives, shift) / beta
    return reduced(values, reduction)


def _unweighted(selection: RowSelection) -> RowSelection:
    """The same rows with the same weight: mining looks at scores alone."""
    bias = selection.get("bias")
    if isinstance(bias, Tensor):  # anything else is refused by the read
        bias = torch.zeros_like(bias).masked_fill(bias == -torch.inf, -torch.inf)
    return {**selection, "bias": bias, "half_life": None}


def _log_of_one_and(pairs: reads.PairSum, shift: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """``log(1 + exp(shift) value)``; 0 where no pair was kept, whose shift says nothing."""
    nothing = pairs.count == 0
    total = (pairs.value + (-shift).exp()).masked_fill(nothing, 1.0)
    return total.log() + shift.masked_fill(nothing, 0.0)
