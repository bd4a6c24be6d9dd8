"""How well an embedding retrieves images of the same class."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

__all__ = ["RetrievalScores", "retrieval", "retrieval_examples"]


@dataclass(frozen=True)
class RetrievalScores:
    """Mean retrieval quality over the queries that have something to find."""

    recall_at: dict[int, float]
    map_at_r: float
    r_precision: float
    mean_average_precision: float
    queries: int
    lone_queries: int

    def as_dict(self) -> dict[str, float]:
        """Flatten to names and numbers, as a metrics log wants them."""
        scores: dict[str, float] = {f"recall_at_{k}": value for k, value in self.recall_at.items()}
        return scores | {
            "map_at_r": self.map_at_r,
            "r_precision": self.r_precision,
            "mean_average_precision": self.mean_average_precision,
            "queries": self.queries,
            "lone_queries": self.lone_queries,
        }


@torch.no_grad()
def retrieval(embeddings: Tensor, labels: Tensor, *, ks: Sequence[int] = (1, 10, 100)) -> RetrievalScores:
    """Search each row among all others and score the ranked lists by class."""
    rows = normalize(embeddings.float(), dim=1)
    n = len(rows)
    recall = dict.fromkeys(ks, 0.0)
    map_at_r = r_precision = average_precision = 0.0
    queries = 0
    for block in torch.arange(n).split(256):
        scores = rows[block] @ rows.T
        scores[torch.arange(len(block)), block] = -torch.inf
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :-1]
        hit = labels[order] == labels[block][:, None]
        relevant = hit.sum(1)
        hit, relevant = hit[relevant > 0], relevant[relevant > 0]
        queries += len(hit)
        rank = torch.arange(1, n)
        precision = hit.cumsum(1) / rank * hit
        within = rank <= relevant[:, None]
        for k in ks:
            recall[k] += float(hit[:, :k].any(1).sum())
        map_at_r += float(((precision * within).sum(1) / relevant).sum())
        r_precision += float(((hit & within).sum(1) / relevant).sum())
        average_precision += float((precision.sum(1) / relevant).sum())
    return RetrievalScores(
        {k: value / queries for k, value in recall.items()}, map_at_r / queries, r_precision / queries, average_precision / queries,
        queries, n - queries,
    )


@torch.no_grad()
def retrieval_examples(embeddings: Tensor, labels: Tensor, *, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k nearest rows of chosen query rows: `(indices (q, k), correct (q, k))`."""
    rows = normalize(embeddings.float(), dim=1)
    scores = rows[queries] @ rows.T
    scores[torch.arange(len(queries)), queries] = -torch.inf
    indices = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return indices, labels[indices] == labels[queries][:, None]
