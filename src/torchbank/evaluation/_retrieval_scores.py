"""The scores of ranked lists: of each query, of groups of queries, and of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torchbank.errors import BankValueError
from torchbank.evaluation._ranked_lists import RankedLists
from torchbank.evaluation._whole_lists import score_whole_lists

__all__ = ["QueryScores", "RetrievalScores", "check_ks", "score_lists"]


class QueryScores(NamedTuple):
    """What each query scores.

    Attributes:
        ks: The k of each R@K.
        values: `(s, len(ks) + 4)` float64: R@K for each k, then MAP@R, R-precision, average precision and inverse
            negative penalty.
        queries: `(s,)` int64, which query each row is of; those with nothing to find are not among them.
        lone: `(l,)` int64, the queries with nothing to find.
    """

    ks: tuple[int, ...]
    values: Float[Tensor, "s measures"]
    queries: Int64[Tensor, " s"]
    lone: Int64[Tensor, " l"]

    def mean(self) -> "RetrievalScores":
        """The scores of all queries together; at least one has something to find."""
        *recall, map_at_r, r_precision, average_precision, penalty = self.values.mean(dim=0).tolist()
        return RetrievalScores(
            recall_at=dict(zip(self.ks, recall, strict=True)),
            map_at_r=map_at_r,
            r_precision=r_precision,
            mean_average_precision=average_precision,
            mean_inverse_negative_penalty=penalty,
            queries=len(self.queries),
            lone_queries=len(self.lone),
            per_query=self,
        )


@dataclass(frozen=True)
class RetrievalScores:
    """Mean scores of ranked lists, each in [0, 1].

    Of one query with R relevant rows (of its class) in a ranked list, with P(i) the part of the first i that is
    relevant:

    Attributes:
        recall_at: For each k, whether one of the first k is relevant (R@K of metric learning, and the cumulative
            matching characteristic, CMC, of re-identification).
        map_at_r: `1/R * sum of P(i) over the relevant ranks i <= R`
            ([Musgrave et al. 2020, section 3.2](arXiv:2003.08505)).
        r_precision: P(R).
        mean_average_precision: `1/R * sum of P(i) over all relevant ranks i`, the mAP of re-identification.
        mean_inverse_negative_penalty: R over the last relevant rank, the mINP of re-identification
            ([Ye et al. 2021, section 3.2](arXiv:2001.04193)).
        queries: Queries that the means are over.
        lone_queries: Queries left out, since no row of their list has their class.
        per_query: What each query scores.
    """

    recall_at: dict[int, float]
    map_at_r: float
    r_precision: float
    mean_average_precision: float
    mean_inverse_negative_penalty: float
    queries: int
    lone_queries: int
    per_query: QueryScores = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, float]:
        """Flatten to names and numbers, for logs: `recall_at_1`, `map_at_r` and so on."""
        return {f"recall_at_{k}": value for k, value in self.recall_at.items()} | {
            "map_at_r": self.map_at_r,
            "r_precision": self.r_precision,
            "mean_average_precision": self.mean_average_precision,
            "mean_inverse_negative_penalty": self.mean_inverse_negative_penalty,
            "queries": self.queries,
            "lone_queries": self.lone_queries,
        }

    def by_group(self, groups: Tensor) -> dict[int, "RetrievalScores"]:
        """The scores of groups of queries: each class by itself, each kind of classes, each camera.

        Args:
            groups: `(q,)` integers, one a query: its label, super-class or whatever it belongs to.

        Returns:
            Scores by group, in ascending order; a group whose queries have nothing to find is left out.

        Raises:
            BankValueError: There is not one group a query.

        Example:
            >>> from torchbank.evaluation import retrieval
            >>> labels = torch.tensor([0, 0, 1, 1])
            >>> scores = retrieval(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.3], [0.0, 1.0]]), labels, ks=(1,))
            >>> {label: of_class.recall_at[1] for label, of_class in scores.by_group(labels).items()}
            {0: 1.0, 1: 0.5}
        """
        ks, values, queries, lone = self.per_query
        asked = len(torch.cat([queries, lone]).unique())
        if groups.shape != (asked,):
            msg = f"groups has shape {tuple(groups.shape)}; expected one number for each of {asked} queries, ({asked},)"
            raise BankValueError(msg)
        groups = groups.to(queries.device)
        return {
            group: QueryScores(ks, values[of_group], queries[of_group], lone[groups[lone] == group]).mean()
            for group in groups[queries].unique().tolist()
            for of_group in [groups[queries] == group]
        }


def check_ks(ks: Sequence[int]) -> None:
    """Raise unless each k is a rank.

    Raises:
        BankValueError: One is below 1.
    """
    if any(k < 1 for k in ks):
        msg = f"ks is {tuple(ks)}; expected ranks of 1 or more"
        raise BankValueError(msg)


def score_lists(lists: RankedLists, ks: Sequence[int]) -> QueryScores:
    """Score every query that has something to find, a block at a time: memory does not grow with queries times rows.

    Args:
        lists: The lists.
        ks: The k of each R@K.
    """
    everyone = torch.arange(len(lists.queries), device=lists.rows.device)
    values = torch.zeros(len(everyone), len(ks) + 4, dtype=torch.float64, device=lists.rows.device)
    for block in lists.query_blocks(max((*ks, 1))):
        values[block] = torch.stack(_score_block(lists, block, ks), dim=1)
    scored = lists.relevant > 0
    return QueryScores(tuple(ks), values[scored], everyone[scored], everyone[~scored])


def _score_block(lists: RankedLists, block: Int64[Tensor, " batch"], ks: Sequence[int]) -> list[Tensor]:
    """Score each query of a block: R@K for each k, then the others in the order of `QueryScores`."""
    relevant = lists.relevant[block]
    found = lists.nearest(block, max((*ks, int(relevant.max()))))
    hits = (lists.row_labels[found] == lists.query_labels[block][:, None]) & (found >= 0)
    rank = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    hits_to_r = hits & (rank <= relevant[:, None])
    precision = hits.cumsum(dim=1).to(torch.float64) / rank
    return [
        *(hits[:, :k].any(dim=1).to(torch.float64) for k in ks),
        (precision * hits_to_r).sum(dim=1) / relevant,
        hits_to_r.sum(dim=1).to(torch.float64) / relevant,
        *score_whole_lists(lists, block, lists.relevant_rows(block)),
    ]
