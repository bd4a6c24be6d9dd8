"""Supervised contrastive loss: all remembered rows of the same label are positives."""

from typing import Unpack

import torch
from torch import Tensor

from torchbank import reads
from torchbank.errors import check_choice
from torchbank.losses._doors import as_scale, check_embeddings, check_lengths, widened, without_autocast
from torchbank.losses._reduction import Reduction, reduced
from torchbank.losses._sources import BatchRows, RowSelection, RowSource, excluding, only_label
from torchbank.reads import Precision


def sup_con(
    queries: Tensor,
    bank: RowSource | None,
    *,
    labels: Tensor,
    ids: Tensor | None = None,
    temperature: float | Tensor = 0.1,
    reduction: Reduction = "mean",
    precision: Precision = "exact",
    **selection: Unpack[RowSelection],
) -> Tensor:
    """Supervised contrastive loss with the mean over positives outside the logarithm, over a bank.

    ``-1/|P| sum_p log(exp(q.M_p / t) / sum_j exp(q.M_j / t))`` for query q, with P the rows of its label and
    j over all selected rows, P included ([Khosla et al. 2020, eq. 2](arXiv:2004.11362)). It is the bank's
    log-sum-exp minus the mean positive similarity: two reads, no (batch x rows) matrix. Under ``half_life``
    and ``bias`` the mean over positives is weighted like the sum over rows.

    Args:
        queries: ``(batch, dim)`` floating; normalised here if the bank's metric is ``"cosine"``.
        bank: A bank with a field ``label``; None is the batch itself, compared by cosine, with gradient to
            both sides and self-pairs left out by position.
        labels: ``(batch,)``, compared with the field ``label``.
        ids: ``(batch,)``, compared with the field ``id``: rows of the same id are left out, as own copies.
        temperature: Above 0; a 0-d tensor learns.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``.
        precision: ``"fast"`` may round to the dtype of a bank's rows of 16 bits; see `torchbank.reads.attend`.
        **selection: Row selection, as in the bank's reads: ``exclude``, ``include``, ``max_age``,
            ``half_life``, ``bias``, ``step``.

    Returns:
        The loss, 0-d, or ``(batch,)`` for ``"none"``; 0 for a query without positives. float32, or float64
        for float64 queries.

    Raises:
        BankValueError: Shapes do not fit, a word is unknown, or the temperature is not above 0.
        BankTypeError: Queries are not floating.
        BankKeyError: The bank has no field ``label``, or no field ``id`` where ``ids`` are given.
        BankStateError: On differentiating twice through a bank.

    Example:
        >>> import torch
        >>> import torchbank as tb
        >>> bank = tb.MemoryBank(4096, 8, fields={"label": torch.int64})
        >>> _ = bank.push(torch.randn(100, 8), label=torch.arange(100) % 10)
        >>> queries, labels = torch.randn(4, 8, requires_grad=True), torch.tensor([0, 0, 1, 2])
        >>> loss = tb.losses.sup_con(queries, bank, labels=labels)
        >>> loss = loss + tb.losses.sup_con(queries, None, labels=labels)
        >>> loss.backward()
    """
    check_embeddings("queries", queries)
    check_lengths(queries, labels=labels, ids=ids)
    check_choice("reduction", reduction, "mean", "sum", "none")
    scale = as_scale(temperature)
    with without_autocast(queries):
        queries = widened(queries)
        rows = BatchRows(queries) if bank is None else bank
        seen = excluding(selection, id=ids)
        lse = rows.attend(queries, scale=scale, precision=precision, **seen).lse
        positives = rows.pair_sum(queries, reads.SCORE, **only_label(seen, labels))
        alone = positives.count == 0
        similarity = positives.value / positives.count.masked_fill(alone, 1.0)
        # where, not a product: without positives there may be no rows at all, and lse is -inf.
        values = torch.where(alone, 0.0, lse - scale * similarity)
    return reduced(values, reduction)
