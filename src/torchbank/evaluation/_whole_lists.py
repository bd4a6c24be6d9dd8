"""Ranks of relevant rows in whole ranked lists, without sorting the lists.

The rank of a row is one more than how many scores lie above its own. The values of a row of scores are sorted (without
their indices: an order of magnitude faster than ranking them), and each relevant score is looked up. Axes: batch
(queries), n (rows), relevant (rows of the query's class).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torchbank.evaluation._ranked_lists import BLOCK_SCORES, RankedLists

__all__ = ["WholeListScores", "score_whole_lists"]


class WholeListScores(NamedTuple):
    """What depends on the rank of every relevant row.

    Attributes:
        average_precision: `(batch,)`, the mean over the relevant rows of the precision at the rank of each.
        inverse_negative_penalty: `(batch,)`, how many there are, over the rank of the last of them.
    """

    average_precision: Float[Tensor, " batch"]
    inverse_negative_penalty: Float[Tensor, " batch"]


def score_whole_lists(
    lists: RankedLists, block: Int64[Tensor, " batch"], relevant: Int64[Tensor, "batch relevant"]
) -> WholeListScores:
    """Score some queries.

    Args:
        lists: The lists.
        block: Which queries.
        relevant: Row numbers for each of them, in ascending order, padded with -1 at the end; one at least.
    """
    given = relevant >= 0
    size = max(1, BLOCK_SCORES // len(lists.rows))
    parts = zip(block.split(size), relevant.clamp(min=0).split(size), given.split(size), strict=True)
    ranks = torch.cat([_ranks(lists.scores(part), wanted, real) for part, wanted, real in parts]).to(torch.float64)
    count = given.sum(dim=1)
    last = ranks.masked_fill(~given, 0).amax(dim=1)
    # Padding goes last and adds nothing.
    ranks = ranks.masked_fill(~given, torch.inf).sort(dim=1).values
    places = torch.arange(1, ranks.shape[1] + 1, device=ranks.device)
    return WholeListScores((places / ranks).sum(dim=1) / count, count / last)


def _ranks(
    scores: Float[Tensor, "batch n"], wanted: Int64[Tensor, "batch relevant"], given: Bool[Tensor, "batch relevant"]
) -> Int64[Tensor, "batch relevant"]:
    """The rank of each wanted row, from 1; among equal scores the lower index goes first."""
    n = scores.shape[1]
    wanted_scores = scores.gather(1, wanted)
    ascending = _sort_values(scores)
    above = n - torch.searchsorted(ascending, wanted_scores, right=True)
    equal = n - torch.searchsorted(ascending, wanted_scores) - above
    ranks = above + 1
    tied = (equal > 1) & given
    index = torch.arange(n, device=scores.device)
    for place in tied.any(dim=0).nonzero()[:, 0].tolist():
        queries = tied[:, place].nonzero()[:, 0]
        same = scores[queries] == wanted_scores[queries, place, None]
        ranks[queries, place] += (same & (index < wanted[queries, place, None])).sum(dim=1, dtype=torch.int32)
    return ranks


def _sort_values(scores: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
    if scores.device.type != "cpu":
        return scores.sort(dim=1).values
    # NumPy sorts values alone, with vector instructions; torch.sort carries indices along and takes 15 times as long.
    ascending = scores.numpy().copy()
    ascending.sort(axis=1)
    return torch.from_numpy(ascending)
