"""Which rows do not resemble their class, and which of different instances are all but the same.

Axes: n (rows), classes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torchbank.banks import Rows
from torchbank.errors import BankValueError
from torchbank.evaluation._doors import unit_rows

__all__ = ["LabelAudit", "NearDuplicates", "audit_labels", "near_duplicates"]

ROWS_AT_ONCE = 512


class LabelAudit(NamedTuple):
    """How much each row resembles its own class and the class that it resembles most, all but its own.

    Attributes:
        own: `(n,)` mean cosine to the other rows of its class; nan for a row that is alone in it.
        other: `(n,)` mean cosine to the rows of the other class.
        other_label: `(n,)` int64, the label of that class.
        ranking: `(m,)` int64, the rows that are not alone, the least like their class first: in the order of
            `own - other`.
    """

    own: Float[Tensor, " n"]
    other: Float[Tensor, " n"]
    other_label: Int64[Tensor, " n"]
    ranking: Int64[Tensor, " m"]


class NearDuplicates(NamedTuple):
    """Pairs of rows of different instances, the most alike first.

    Attributes:
        first: `(p,)` int64, the lower row number.
        second: `(p,)` int64.
        similarity: `(p,)` cosine.
    """

    first: Int64[Tensor, " p"]
    second: Int64[Tensor, " p"]
    similarity: Float[Tensor, " p"]


@torch.no_grad()
def audit_labels(embeddings: Tensor, labels: Tensor) -> LabelAudit:
    """Rank rows by how little they resemble their own class.

    A wrong label shows where embeddings have learned more from the others of a class than from it: the row lies among
    the class it belongs to. [Liu et al. 2021](arXiv:2103.16047) drop such rows while training, by the same mean
    similarity to the rows of a memory. The mean cosine to a class is the inner product with the mean of its unit
    vectors, so that the cost is rows times classes.

    Args:
        embeddings: `(n, d)`, any floating dtype; normalised here.
        labels: `(n,)` integers, on the same device.

    Raises:
        BankTypeError: The embeddings are not floating or the labels no integers.
        BankValueError: The shapes do not fit, a row is not finite or has no direction, or there are less than two
            classes.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [0.0, 1.0]])
        >>> audit = audit_labels(embeddings, torch.tensor([5, 5, 5, 7, 7]))
        >>> audit.ranking[0].item(), audit.other_label[2].item()
        (2, 7)
    """
    rows = unit_rows(embeddings, labels)
    classes, number, sizes = labels.unique(return_inverse=True, return_counts=True)
    if len(classes) < 2:
        msg = f"the {len(rows)} rows have {len(classes)} class; expected two or more, to tell one from another"
        raise BankValueError(msg)
    sums = torch.zeros(len(classes), rows.shape[1], dtype=rows.dtype, device=rows.device).index_add_(0, number, rows)
    # Without itself: a row's cosine to itself is 1.
    own = ((rows * sums[number]).sum(dim=1) - 1) / (sizes[number] - 1)
    own = own.masked_fill(sizes[number] == 1, torch.nan)
    means = Rows(sums / sizes[:, None], number=torch.arange(len(classes), device=rows.device))
    others = [
        means.nearest(part, 1, exclude={"number": numbers})
        for part, numbers in zip(rows.split(ROWS_AT_ONCE), number.split(ROWS_AT_ONCE), strict=True)
    ]
    other = torch.cat([found.scores[:, 0] for found in others])
    order = (own - other).argsort(stable=True)
    return LabelAudit(
        own=own,
        other=other,
        other_label=classes[torch.cat([found.slots[:, 0] for found in others])],
        ranking=order[sizes[number[order]] > 1],
    )


@torch.no_grad()
def near_duplicates(embeddings: Tensor, ids: Tensor, *, similarity: float, neighbors: int = 5) -> NearDuplicates:
    """Find rows of different instances that are all but the same.

    Args:
        embeddings: `(n, d)`, any floating dtype; normalised here.
        ids: `(n,)` integers: rows of one id are one instance.
        similarity: The least cosine of a pair.
        neighbors: How many of the rows nearest to each are looked at; one with more duplicates is found from them.

    Raises:
        BankTypeError: The embeddings are not floating or the ids no integers.
        BankValueError: The shapes do not fit, or a row is not finite or has no direction.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.01], [1.0, 0.0]])
        >>> found = near_duplicates(embeddings, torch.tensor([0, 1, 2, 0]), similarity=0.99)
        >>> list(zip(found.first.tolist(), found.second.tolist()))
        [(0, 2), (2, 3)]
    """
    rows = unit_rows(embeddings, ids)
    table = Rows(rows, id=ids)
    pairs, scores = [], []
    for part in torch.arange(len(rows), device=rows.device).split(ROWS_AT_ONCE):
        found = table.nearest(rows[part], neighbors, exclude={"id": ids[part]})
        query, place = ((found.scores >= similarity) & found.valid).nonzero(as_tuple=True)
        pairs.append(torch.stack([part[query], found.slots[query, place]], dim=1).sort(dim=1).values)
        scores.append(found.scores[query, place])
    # A pair is found from either side; which side's rounding is kept does not matter.
    distinct, which = torch.cat(pairs).unique(dim=0, return_inverse=True)
    alike = torch.full((len(distinct),), -torch.inf, dtype=rows.dtype, device=rows.device)
    alike = alike.scatter_reduce(0, which, torch.cat(scores).to(rows.dtype), "amax")
    order = alike.argsort(descending=True, stable=True)
    return NearDuplicates(distinct[order, 0], distinct[order, 1], alike[order])
