"""Losses of pytorch-metric-learning, with a bank as their reference set."""

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from torchbank.banks import Bank, Rows
from torchbank.errors import BankKeyError, BankTypeError, BankValueError

__all__ = ["pml"]

# Of the pairs that it is given this loss reads only how many a query has, and compares it with every row.
SEES_EVERY_ROW = "NCALoss"


def pml(
    loss: Callable[..., Tensor],
    queries: Tensor,
    bank: Bank | Rows,
    *,
    labels: Tensor,
    ids: Tensor | None = None,
) -> Tensor:
    """Compute a loss of pytorch-metric-learning between queries and the rows of a bank.

    The loss is called as ``loss(queries, labels, pairs, ref_emb=rows, ref_labels=row_labels)``, which versions 2 and 3
    of pytorch-metric-learning both take, with every pair of a query and a row but those of one id. Margins, distances
    and reducers are the loss's own, and so is the time: it lists all pairs, where the functions of `torchbank.losses`
    read the bank in one pass. Losses that take no reference set or no pairs (those with proxies, FastAP) raise an
    error of their own. NCALoss, which does not leave a pair out, cannot be given ids.

    torchbank does not import pytorch-metric-learning: the loss comes from you.

    Args:
        loss: A loss for pairs or triplets, such as ``pytorch_metric_learning.losses.CircleLoss()``.
        queries: ``(batch, dim)``, which learn; normalised by the loss, if at all.
        bank: A bank with the field ``label``, or `torchbank.Rows`; its rows get no gradient.
        labels: ``(batch,)`` integers, compared with the field ``label``.
        ids: ``(batch,)`` integers, compared with the field ``id``: a row with the query's id is no pair of it.

    Returns:
        What the loss gives, a 0-d tensor with most reducers; 0 where there is no pair.

    Raises:
        BankKeyError: The bank has no field ``label``, or no ``id`` where ids are given.
        BankTypeError: The queries are not floating.
        BankValueError: Shapes or devices do not fit, or NCALoss is given ids.

    Example:
        >>> import torch, torchbank as tb
        >>> from torchbank.interop import pml
        >>> class SumOfDistances(torch.nn.Module):
        ...     def forward(self, embeddings, labels, indices_tuple, ref_emb, ref_labels):
        ...         anchors, positives, _, _ = indices_tuple
        ...         return (embeddings[anchors] - ref_emb[positives]).norm(dim=1).sum()
        >>> bank = tb.MemoryBank(8, 2, fields={"label": torch.int64, "id": torch.int64})
        >>> _ = bank.push(torch.eye(2)[[0, 1, 1]], label=torch.tensor([3, 3, 4]), id=torch.tensor([0, 1, 2]))
        >>> queries = torch.tensor([[1.0, 0.0]], requires_grad=True)
        >>> pml(SumOfDistances(), queries, bank, labels=torch.tensor([3]), ids=torch.tensor([0])).item()
        1.4142135381698608
    """
    rows, fields = _rows_of(bank)
    _check(queries, rows, labels=labels, ids=ids)
    row_labels = _field(fields, "label")
    same = labels[:, None] == row_labels
    if ids is not None and isinstance(loss, nn.Module) and SEES_EVERY_ROW in map(_class_name, loss.modules()):
        msg = f"{SEES_EVERY_ROW} compares a query with its own row as well, whatever its pairs; give no ids to it"
        raise BankValueError(msg)
    another = torch.ones_like(same) if ids is None else ids[:, None] != _field(fields, "id")
    pairs = (*_listed(same & another), *_listed(~same & another))
    if not len(pairs[0]) + len(pairs[2]):
        return (queries * 0).sum()
    return loss(queries, labels, pairs, ref_emb=rows.detach().to(queries.dtype), ref_labels=row_labels)


def _rows_of(bank: Bank | Rows) -> tuple[Tensor, dict[str, Tensor]]:
    """The rows that are there, and their fields."""
    if isinstance(bank, Rows):
        return bank.embeddings, dict(bank.fields)
    view = bank.view()
    if view.valid.all():
        return view.embeddings, dict(view.fields)
    return view.embeddings[view.valid], {name: values[view.valid] for name, values in view.fields.items()}


def _class_name(module: nn.Module) -> str:
    return type(module).__name__


def _field(fields: dict[str, Tensor], name: str) -> Tensor:
    if name not in fields:
        msg = f"the bank has no field {name!r} (it has {', '.join(fields) or 'none'}); make it with that field"
        raise BankKeyError(msg)
    return fields[name]


def _listed(pairs: Bool[Tensor, "batch rows"]) -> tuple[Tensor, Tensor]:
    """The query and the row of each pair."""
    anchors, others = pairs.nonzero(as_tuple=True)
    return anchors, others


def _check(queries: Tensor, rows: Tensor, *, labels: Tensor, ids: Tensor | None) -> None:
    if not queries.is_floating_point():
        msg = f"queries are {queries.dtype}; expected a floating dtype"
        raise BankTypeError(msg)
    if queries.dim() != 2 or queries.shape[1:] != rows.shape[1:] or queries.device != rows.device:
        msg = (
            f"queries are {tuple(queries.shape)} on {queries.device}; expected (batch, {rows.shape[1]}) on "
            f"{rows.device}, where the bank is"
        )
        raise BankValueError(msg)
    for name, values in (("labels", labels), ("ids", ids)):
        if values is not None and (values.shape != queries.shape[:1] or values.device != queries.device):
            msg = (
                f"{name} has shape {tuple(values.shape)} on {values.device}; expected ({len(queries)},) on "
                f"{queries.device}, one for each query"
            )
            raise BankValueError(msg)
