"""The first places of each query's ranked list, with one order for equal scores.

Axes: n (rows), batch (queries), k (places).
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torchbank.banks import Rows

__all__ = ["BLOCK_SCORES", "nearest_others"]

# Scores held at once (4 MB of float32). What is computed from them stays below 64 MB even where all of them are equal.
BLOCK_SCORES = 2**20


def nearest_others(rows: Float[Tensor, "n dim"], queries: Int64[Tensor, " batch"], k: int) -> Int64[Tensor, "batch k"]:
    """Find the k best of all other rows for each query row; the lower index goes first among equal scores.

    Args:
        rows: Scored by their inner product.
        queries: Row numbers. A query's own row is left out by its number, so that a duplicate of it stays.
        k: Places.

    Returns:
        Row numbers, best first; -1 where there are fewer than k other rows.
    """
    ids = torch.arange(len(rows), device=rows.device)
    # `nearest` breaks ties as it likes: one more place shows whether equal scores straddle the last one.
    found = Rows(rows, id=ids).nearest(rows[queries], k + 1, exclude={"id": queries})
    slots, by_slot = found.slots.sort(dim=1)
    scores, by_score = found.scores.gather(1, by_slot).sort(dim=1, descending=True, stable=True)
    slots = slots.gather(1, by_score)
    straddled = (scores[:, k - 1] == scores[:, k]) & (slots[:, k] >= 0)
    if straddled.any():
        for part in straddled.nonzero()[:, 0].split(max(1, BLOCK_SCORES // len(rows))):
            slots[part, :k] = _nearest_others_in_full(rows, queries[part], k)
    return slots[:, :k]


def _nearest_others_in_full(
    rows: Float[Tensor, "n dim"], queries: Int64[Tensor, " batch"], k: int
) -> Int64[Tensor, "batch k"]:
    """The same from all scores, for queries with equal scores on both sides of the last place."""
    scores = scores_of_others(rows, queries)
    last = scores.topk(k, dim=1).values[:, -1:]
    tied = scores == last
    above = scores > last
    places_left = k - above.sum(dim=1, keepdim=True)
    chosen = above | (tied & (tied.cumsum(dim=1, dtype=torch.int32) <= places_left))
    slots = chosen.nonzero()[:, 1].view(len(queries), k)
    return slots.gather(1, scores.gather(1, slots).sort(dim=1, descending=True, stable=True).indices)


def scores_of_others(rows: Float[Tensor, "n dim"], queries: Int64[Tensor, " batch"]) -> Float[Tensor, "batch n"]:
    """Score query rows against all rows; a query's own row scores -inf."""
    scores = rows[queries] @ rows.T
    return scores.scatter_(1, queries[:, None], -torch.inf)
