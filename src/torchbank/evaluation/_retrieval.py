"""How well embeddings retrieve others of the same class."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torchbank.errors import BankTypeError, BankValueError
from torchbank.evaluation._doors import unit_rows
from torchbank.evaluation._ranked_lists import RankedLists
from torchbank.evaluation._retrieval_scores import RetrievalScores, check_ks, score_lists

__all__ = ["retrieval", "retrieval_examples"]


@torch.no_grad()
def retrieval(embeddings: Tensor, labels: Tensor, *, ks: Sequence[int] = (1, 10, 100)) -> RetrievalScores:
    """Rank all other rows for each row by cosine, and score the lists by class.

    Queries with no relevant row are dropped and counted; they stay in the lists of others. A query's own row is left
    out by its number. Among equal scores the row with the lower index ranks first. Queries are taken in blocks: memory
    does not grow with the square of the rows.

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
    check_ks(ks)
    lists = _all_others(rows, labels)
    if not (lists.relevant > 0).any():
        msg = f"no class has two of the {len(rows)} rows, so nothing can be retrieved; expected several rows a class"
        raise BankValueError(msg)
    return score_lists(lists, ks).mean()


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
    indices = _all_others(rows, labels).nearest(queries, k)
    return indices, labels[indices] == labels[queries][:, None]


def _all_others(rows: Float[Tensor, "n dim"], labels: Int64[Tensor, " n"]) -> RankedLists:
    """Every row is a query; its own row is left out by its number, so that a duplicate of it stays."""
    number = torch.arange(len(rows), device=rows.device)
    return RankedLists(rows, rows, query_labels=labels, row_labels=labels, left_out={"id": (number, number)})
