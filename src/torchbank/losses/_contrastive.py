"""The contrastive loss of XBM: pull pairs of one label together, push close pairs of two labels apart."""

from typing import Literal, NamedTuple, Unpack

from torch import Tensor

from torchbank import reads
from torchbank.errors import check_choice
from torchbank.losses._doors import check_embeddings, check_lengths, widened, without_autocast
from torchbank.losses._reduction import Reduction, reduced, share_of_mean
from torchbank.losses._sources import BatchRows, RowSelection, RowSource, excluding, only_label

Normalize = Literal["anchor", "active"]

_DISTANCE = reads.PairFunction(
    "contrastive_distance",
    value=lambda scores, same: 1 - scores,  # noqa: ARG005
    derivative=lambda scores, same: -scores.new_ones(()).expand_as(scores),  # noqa: ARG005
    closed_form="distance",
)
_EXCESS = reads.PairFunction(
    "contrastive_excess",
    value=lambda scores, same, margin: (scores - margin).clamp_min(0),  # noqa: ARG005
    derivative=lambda scores, same, margin: (scores > margin).to(scores.dtype),  # noqa: ARG005
    zero_up_to=lambda margin: margin,
    closed_form="excess",
)


class ContrastivePairs(NamedTuple):
    """The pairs that a contrastive loss is made of: the loss itself, and what to log beside it.

    Attributes:
        positives: Per query, the sum of ``1 - s`` over rows of its label, and how many they are.
        negatives: Per query, the sum of ``s - margin`` over the active rows of other labels, those with
            ``s > margin``, and how many they are.
        margin: The margin.
    """

    positives: reads.PairSum
    negatives: reads.PairSum
    margin: float

    def loss(self, normalize: Normalize = "anchor", reduction: Reduction = "mean") -> Tensor:
        """The loss of these pairs; see `contrastive`."""
        if normalize == "anchor":
            # The paper sums s, not s - margin: the same gradient, and a step of the margin at the margin.
            active = self.negatives.value + self.margin * self.negatives.count
            return reduced(self.positives.value + active, reduction)
        values = share_of_mean(self.positives) + share_of_mean(self.negatives)
        return reduced(values * values.shape[0], reduction)


def contrastive(
    queries: Tensor,
    bank: RowSource | None,
    *,
    labels: Tensor,
    ids: Tensor | None = None,
    margin: float = 0.5,
    normalize: Normalize = "anchor",
    reduction: Reduction = "mean",
    **selection: Unpack[RowSelection],
) -> Tensor:
    """The pair loss of cross-batch memory ([Wang et al. 2020](arXiv:1912.06798)), over a bank or the batch.

    ``normalize="anchor"`` is the paper's: per query the sum of ``1 - s`` over all rows of its label plus the
    sum of ``s`` over rows of other labels with ``s > margin``, then the mean over queries. The loss jumps by
    the margin when a pair becomes active, and grows with the rows that are; its gradient is the hinge's.

    ``normalize="active"`` is the mean of ``1 - s`` over all positive pairs of the batch plus the mean of
    ``s - margin`` over all its active negative pairs, and does not grow with the bank: stable when training
    from scratch, where thousands of stale rows lie above the margin.

    Under ``half_life`` and ``bias``, sums and means are weighted.

    Args:
        queries: ``(batch, dim)`` floating; normalised here if the bank's metric is ``"cosine"``.
        bank: A bank with a field ``label``; None is the batch itself, compared by cosine, with gradient to
            both sides and self-pairs left out by position.
        labels: ``(batch,)``, compared with the field ``label``.
        ids: ``(batch,)``, compared with the field ``id``: rows of the same id are left out, as own copies.
        margin: Negatives at or below it are left alone. 0.5 is the paper's.
        normalize: ``"anchor"`` or ``"active"``.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``. With ``"active"`` a query's value is
            the batch size times its share of the two means, so that the mean of the values is the loss.
        **selection: Row selection, as in the bank's reads: ``exclude``, ``include``, ``max_age``,
            ``half_life``, ``bias``, ``step``.

    Returns:
        The loss, 0-d, or ``(batch,)`` for ``"none"``; 0 where there are no pairs. float32, or float64 for
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
        >>> loss = tb.losses.contrastive(query, memory, labels=torch.tensor([0]))
        >>> round(loss.item(), 4)  # 1 - 0.6 for the positive and 0.8 for the negative
        1.2
    """
    check_choice("normalize", normalize, "anchor", "active")
    check_choice("reduction", reduction, "mean", "sum", "none")
    pairs = contrastive_pairs(queries, bank, labels=labels, ids=ids, margin=margin, **selection)
    return pairs.loss(normalize, reduction)


def contrastive_pairs(
    queries: Tensor,
    bank: RowSource | None,
    *,
    labels: Tensor,
    ids: Tensor | None = None,
    margin: float = 0.5,
    **selection: Unpack[RowSelection],
) -> ContrastivePairs:
    """The pair sums that `contrastive` is made of, for a loss and its log from one pass.

    Args:
        queries: As in `contrastive`, like all others.
        bank: See there.
        labels: See there.
        ids: See there.
        margin: See there.
        **selection: See there.

    Returns:
        `ContrastivePairs`, whose ``loss(normalize, reduction)`` is what `contrastive` returns.

    Raises:
        BankValueError: Shapes do not fit.
        BankTypeError: Queries are not floating.
        BankKeyError: The bank has no field ``label``, or no field ``id`` where ``ids`` are given.

    Example:
        >>> import torch
        >>> from torchbank.losses import contrastive_pairs
        >>> queries = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])
        >>> pairs = contrastive_pairs(queries, None, labels=torch.tensor([0, 0, 1]))
        >>> pairs.positives.count, pairs.negatives.count
        (tensor([1., 1., 0.]), tensor([1., 1., 2.]))
    """
    check_embeddings("queries", queries)
    check_lengths(queries, labels=labels, ids=ids)
    with without_autocast(queries):
        queries = widened(queries)
        rows = BatchRows(queries) if bank is None else bank
        seen = excluding(selection, id=ids)
        positives = rows.pair_sum(queries, _DISTANCE, **only_label(seen, labels))
        negatives = rows.pair_sum(queries, _EXCESS.with_parameters(margin), **excluding(seen, label=labels))
    return ContrastivePairs(positives, negatives, margin)
