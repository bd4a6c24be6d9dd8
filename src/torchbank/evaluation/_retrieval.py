"""How well embeddings retrieve others of the same class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torchbank.errors import BankTypeError, BankValueError
from torchbank.evaluation._average_precision import average_precision
from torchbank.evaluation._doors import unit_rows
from torchbank.evaluation._ranking import BLOCK_SCORES, nearest_others

__all__ = ["RetrievalScores", "retrieval", "retrieval_examples"]


@dataclass(frozen=True)
class RetrievalScores:
    """Mean scores of self-retrieval, each in [0, 1].

    Of one query with R relevant rows (its class without itself) and a ranked list of all other rows, with P(i) the
    part of the first i that is relevant:

    Attributes:
        recall_at: For each k, whether one of the first k is relevant (R@K of metric learning).
        map_at_r: `1/R * sum of P(i) over the relevant ranks i <= R`
            ([Musgrave et al. 2020, section 3.2](arXiv:2003.08505)).
        r_precision: P(R).
        mean_average_precision: `1/R * sum of P(i) over all relevant ranks i`, the mAP of re-identification.
        queries: Queries that the means are over.
        lone_queries: Rows left out as queries, since no other row has their class. They stay in the lists.
    """

    recall_at: dict[int, float]
    map_at_r: float
    r_precision: float
    mean_average_precision: float
    queries: int
    lone_queries: int

    def as_dict(self) -> dict[str, float]:
        """Flatten to names and numbers, for logs: `recall_at_1`, `map_at_r` and so on."""
        return {f"recall_at_{k}": value for k, value in self.recall_at.items()} | {
            "map_at_r": self.map_at_r,
            "r_precision": self.r_precision,
            "mean_average_precision": self.mean_average_precision,
            "queries": self.queries,
            "lone_queries": self.lone_queries,
        }


@torch.no_grad()
def retrieval(embeddings: Tensor, labels: Tensor, *, ks: Sequence[int] = (1, 10, 100)) -> RetrievalScores:
    """Rank all other rows for each row by cosine, and score the lists by class.

    Queries with no relevant row are dropped and counted. A query's own row is left out by its number. Among equal
    scores the row with the lower index ranks first. Queries are taken in blocks: memory does not grow with the
    square of the rows.

    Args:
        embeddings: `(n, d)`, any floating dtype; normalised here.
        labels: `(n,)` integers, on the same device.
        ks: The k of each R@K.

    Raises:
        BankTypeError: The embeddings are not floating or the labels no integers.
        BankValueError: The shapes do not fit, a row is not finite or has no direction, a k is below 1, or no class
            has two rows.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [0.8, 0.1]])
        >>> scores = retrieval(embeddings, torch.tensor([0, 0, 1, 1, 2]), ks=(1,))
        >>> scores.recall_at[1], scores.queries, scores.lone_queries
        (0.75, 4, 1)
    """
    rows = unit_rows(embeddings, labels)
    if any(k < 1 for k in ks):
        msg = f"ks is {tuple(ks)}; expected ranks of 1 or more"
        raise BankValueError(msg)
    classes = _Classes(labels)
    queries = int((classes.relevant > 0).sum())
    if not queries:
        msg = f"no class has two of the {len(rows)} rows, so nothing can be retrieved; expected several rows a class"
        raise BankValueError(msg)
    totals = torch.zeros(len(ks) + 3, dtype=torch.float64, device=rows.device)
    for block in classes.query_blocks(max((*ks, 1))):
        totals += torch.stack(_score_block(rows, labels, classes, block, ks)).sum(dim=1)
    *recall, map_at_r, r_precision, mean_average_precision = (totals / queries).tolist()
    return RetrievalScores(
        recall_at=dict(zip(ks, recall, strict=True)),
        map_at_r=map_at_r,
        r_precision=r_precision,
        mean_average_precision=mean_average_precision,
        queries=queries,
        lone_queries=len(rows) - queries,
    )


@torch.no_grad()
def retrieval_examples(
    embeddings: Tensor, labels: Tensor, *, queries: Tensor, k: int
) -> tuple[Int64[Tensor, "queries k"], Bool[Tensor, "queries k"]]:
    """Find the k nearest other rows of chosen rows, in the order that `retrieval` scores.

    Args:
        embeddings: `(n, d)`, any floating dtype; normalised here.
        labels: `(n,)` integers, on the same device.
        queries: `(q,)` int64 row numbers.
        k: Neighbours of each, fewer than n.

    Returns:
        Their row numbers `(q, k)`, nearest first, and whether each has the query's class `(q, k)`.

    Raises:
        BankTypeError: A dtype is wrong.
        BankValueError: The shapes do not fit, a row is not finite or has no direction, a query is no row number, or
            k is out of range.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> retrieval_examples(embeddings, torch.tensor([0, 0, 1]), queries=torch.tensor([1]), k=2)
        (tensor([[0, 2]]), tensor([[ True, False]]))
    """
    rows = unit_rows(embeddings, labels)
    if not 1 <= k < len(rows):
        msg = f"k is {k}; expected 1 to {len(rows) - 1}, the number of other rows"
        raise BankValueError(msg)
    if queries.dtype != torch.int64 or queries.dim() != 1:
        msg = f"queries is {queries.dtype} of shape {tuple(queries.shape)}; expected int64 row numbers (q,)"
        raise BankTypeError(msg)
    if len(queries) and (int(queries.min()) < 0 or int(queries.max()) >= len(rows)):
        msg = f"queries run from {int(queries.min())} to {int(queries.max())}; expected row numbers below {len(rows)}"
        raise BankValueError(msg)
    indices = nearest_others(rows, queries, k)
    return indices, labels[indices] == labels[queries][:, None]


class _Classes:
    """Which rows belong together.

    Attributes:
        relevant: `(n,)` int64, how many other rows have the class of each row.
    """

    def __init__(self, labels: Int64[Tensor, " n"]) -> None:
        self._by_class = labels.argsort(stable=True)
        _, self._class_of, sizes = labels.unique(return_inverse=True, return_counts=True)
        self._starts = sizes.cumsum(0) - sizes
        self.relevant = sizes[self._class_of] - 1

    def query_blocks(self, places: int) -> Iterator[Int64[Tensor, " batch"]]:
        """Every row that has something to find, the largest classes first, so that a block pads little.

        Args:
            places: How many places of its list a query needs at least.
        """
        order = self.relevant.argsort(descending=True, stable=True)
        order = order[: int((self.relevant > 0).sum())]
        while len(order):
            # `nearest` is quick for batches of some hundred; a query takes about ten numbers for each of its places.
            size = max(1, min(512, BLOCK_SCORES // (10 * max(places, int(self.relevant[order[0]])))))
            yield order[:size]
            order = order[size:]

    def others_of(self, queries: Int64[Tensor, " batch"]) -> Int64[Tensor, "batch relevant"]:
        """The other rows of each query's class in ascending order, padded with -1 at the end."""
        relevant = self.relevant[queries]
        place = torch.arange(int(relevant.max()) + 1, device=queries.device)
        start = self._starts[self._class_of[queries]]
        members = self._by_class[(start[:, None] + place).clamp(max=len(self._by_class) - 1)]
        dropped = (members == queries[:, None]) | (place > relevant[:, None])
        # A stable sort by "is it dropped" moves the query itself to the end and keeps the rest in order.
        members = members.masked_fill(dropped, -1)
        return members.gather(1, dropped.to(torch.uint8).sort(dim=1, stable=True).indices)[:, :-1]


def _score_block(
    rows: Float[Tensor, "n dim"],
    labels: Int64[Tensor, " n"],
    classes: _Classes,
    queries: Int64[Tensor, " batch"],
    ks: Sequence[int],
) -> list[Float[Tensor, " batch"]]:
    """Score each query of a block: R@K for each k, MAP@R, R-precision, average precision."""
    relevant = classes.relevant[queries]
    found = nearest_others(rows, queries, max((*ks, int(relevant.max()))))
    hits = (labels[found] == labels[queries][:, None]) & (found >= 0)
    rank = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    hits_to_r = hits & (rank <= relevant[:, None])
    precision = hits.cumsum(dim=1).to(torch.float64) / rank
    return [
        *(hits[:, :k].any(dim=1).to(torch.float64) for k in ks),
        (precision * hits_to_r).sum(dim=1) / relevant,
        hits_to_r.sum(dim=1).to(torch.float64) / relevant,
        average_precision(rows, queries, classes.others_of(queries)),
    ]
