"""The triplet loss: a positive should be ahead of a negative by a margin."""

from typing import Unpack, get_args

from torch import Tensor

from torchbank.errors import check_choice
from torchbank.losses._doors import check_embeddings, check_lengths, widened, without_autocast
from torchbank.losses._reduction import Reduction, reduced, share_of_mean
from torchbank.losses._sources import BatchRows, RowSelection, RowSource, check_label_is_free, excluding
from torchbank.reads import Mining


def triplet(
    queries: Tensor,
    bank: RowSource | None,
    *,
    labels: Tensor,
    ids: Tensor | None = None,
    margin: float = 0.1,
    mining: Mining = "all",
    reduction: Reduction = "mean",
    **selection: Unpack[RowSelection],
) -> Tensor:
    """The triplet loss on similarities ([Schroff et al. 2015, eq. 3](arXiv:1503.03832)), over a bank or the batch.

    ``max(0, s_n - s_p + margin)`` for a query with positive p, a row of its label, and negative n, a row of another.
    ``mining`` chooses the triplets inside the read:

    - ``"all"``, all that there are; the loss is the mean over the active ones, those above 0, of the whole batch
      (the non-zero mean of [Hermans et al. 2017, section 2](arXiv:1703.07737)). Neither a list of triplets nor a
      tensor of (batch x rows x rows) is made.
    - ``"semi-hard"``, the same over the triplets whose negative scores below the positive.
    - ``"hardest"``, for each query the lowest positive with the highest negative; the loss is the mean over all
      queries (batch hard, eq. 5 there).

    Under ``half_life`` and ``bias`` a triplet counts with the weights of both its rows; they do not change which
    is the hardest. Over a bank the host waits for the device.

    Args:
        queries: ``(batch, dim)`` floating; normalised here if the bank's metric is ``"cosine"``.
        bank: A bank with a field ``label``; None is the batch itself, compared by cosine, with gradient to
            both sides and self-pairs left out by position.
        labels: ``(batch,)``, compared with the field ``label``.
        ids: ``(batch,)``, compared with the field ``id``: rows of the same id are left out, as own copies.
        margin: How far a positive must be ahead. On the sphere 0.1 is the 0.2 of Schroff et al., who compare squared
            distances, ``2 - 2 s``.
        mining: ``"all"``, ``"semi-hard"`` or ``"hardest"``.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``. Unless ``"hardest"``, a query's value is the
            batch size times its share of the mean over triplets, so that the mean of the values is the loss.
        **selection: Row selection, as in the bank's reads: ``exclude``, ``include``, ``max_age``,
            ``half_life``, ``bias``, ``step``.

    Returns:
        The loss, 0-d, or ``(batch,)`` for ``"none"``; 0 where there is no triplet. float32, or float64 for
        float64 queries.

    Raises:
        BankValueError: Shapes do not fit or a word is unknown.
        BankTypeError: Queries are not floating.
        BankKeyError: The bank has no field ``label``, or no field ``id`` where ``ids`` are given.
        BankStateError: On differentiating twice through a bank.

    Example:
        >>> import torch
        >>> import torchbank as tb
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> memory = tb.Rows(rows, metric="cosine", label=torch.tensor([0, 1]))
        >>> query = torch.tensor([[0.6, 0.8]])
        >>> loss = tb.losses.triplet(query, memory, labels=torch.tensor([0]), margin=0.1)
        >>> round(loss.item(), 4)  # 0.8 for the negative, 0.6 for the positive
        0.3
    """
    check_embeddings("queries", queries)
    check_lengths(queries, labels=labels, ids=ids)
    check_choice("mining", mining, *get_args(Mining))
    check_choice("reduction", reduction, "mean", "sum", "none")
    check_label_is_free(selection)
    with without_autocast(queries):
        queries = widened(queries)
        rows = BatchRows(queries) if bank is None else bank
        seen = excluding(selection, id=ids)
        triplets = rows.triplet_sum(queries, labels=labels, margin=margin, mining=mining, **seen)
        values = triplets.value if mining == "hardest" else share_of_mean(triplets) * queries.shape[0]
    return reduced(values, reduction)
