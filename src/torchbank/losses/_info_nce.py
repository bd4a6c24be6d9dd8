"""InfoNCE: tell the positive from everything remembered."""

from typing import Literal, Unpack

import torch
from torch import Tensor

from torchbank.errors import check_choice
from torchbank.losses._doors import (
    as_scale,
    check_embeddings,
    check_same_shape,
    widened,
    without_autocast,
)
from torchbank.losses._reduction import Reduction, reduced
from torchbank.losses._sources import BatchRows, RowSelection, RowSource, as_compared
from torchbank.reads import Precision

Negatives = Literal["bank", "batch", "both"]


def info_nce(
    queries: Tensor,
    positives: Tensor,
    bank: RowSource | None,
    *,
    temperature: float | Tensor = 0.07,
    negatives: Negatives = "bank",
    reduction: Reduction = "mean",
    precision: Precision = "exact",
    **selection: Unpack[RowSelection],
) -> Tensor:
    """InfoNCE, the contrastive loss of MoCo: each query's positive against the rows of a bank.

    ``-log(exp(q.k / t) / (exp(q.k / t) + sum_j exp(q.M_j / t)))`` for query q with positive k
    ([He et al. 2020, eq. 1](arXiv:1911.05722)), computed as ``log(1 + exp(lse - q.k / t))`` from the bank's
    log-sum-exp, so that no (batch x rows) matrix exists. With the bank's metric ``"cosine"``, queries and
    positives are normalised here. Gradient flows to queries, positives and temperature, never to bank rows.

    Args:
        queries: ``(batch, dim)`` floating.
        positives: ``(batch, dim)`` floating; detach them for MoCo.
        bank: Where the negatives are; None is the batch itself, compared by cosine.
        temperature: Above 0; a 0-d tensor learns.
        negatives: ``"bank"``, the rows of the bank; ``"batch"``, the positives of the other queries (as in
            NNCLR); ``"both"``.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``.
        precision: ``"fast"`` may round to the dtype of a bank's rows of 16 bits; see `torchbank.reads.attend`.
        **selection: Row selection, as in the bank's reads: ``exclude``, ``include``, ``max_age``,
            ``half_life``, ``bias``, ``step``. With ``"both"``, ``bias`` is of the bank's rows.

    Returns:
        The loss, 0-d, or ``(batch,)`` for ``"none"``; 0 for a query without any negative. float32, or float64
        for float64 queries.

    Raises:
        BankValueError: Shapes do not fit, a word is unknown, or the temperature is not above 0.
        BankTypeError: Queries or positives are not floating.
        BankStateError: On differentiating twice through a bank.

    Example:
        >>> import torch
        >>> import torchbank as tb
        >>> bank = tb.MemoryBank(4096, 8)
        >>> _ = bank.push(torch.randn(100, 8))
        >>> queries = torch.randn(4, 8, requires_grad=True)
        >>> loss = tb.losses.info_nce(queries, torch.randn(4, 8), bank, temperature=0.2)
        >>> loss.backward()
        >>> queries.grad.shape
        torch.Size([4, 8])
    """
    check_embeddings("queries", queries)
    check_embeddings("positives", positives)
    check_same_shape(queries, positives)
    check_choice("negatives", negatives, "bank", "batch", "both")
    check_choice("reduction", reduction, "mean", "sum", "none")
    scale = as_scale(temperature)
    metric = "cosine" if bank is None else bank.metric
    with without_autocast(queries):
        queries, positives = widened(queries), widened(positives)
        positive = scale * (as_compared(queries, metric) * as_compared(positives, metric)).sum(dim=1)
        values = torch.zeros_like(positive)
        # From log 1 = 0 on, one source after another: logaddexp never meets -inf on both sides, where its
        # gradient is NaN, and a small loss keeps its digits.
        if bank is not None and negatives != "batch":
            values = torch.logaddexp(
                values, bank.attend(queries, scale=scale, precision=precision, **selection).lse - positive
            )
            selection = {**selection, "bias": None}
        if bank is None or negatives != "bank":
            batch = BatchRows(positives, metric)
            values = torch.logaddexp(values, batch.attend(queries, scale=scale, **selection).lse - positive)
    return reduced(values, reduction)
