"""Whether an embedding finds the same object again after a gap, without a tracker in between.

Axes: n (observations), candidates (observations exactly one gap later).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from torchbank.errors import BankTypeError, BankValueError

__all__ = ["Reassociation", "reassociation"]


@dataclass(frozen=True)
class Reassociation:
    """How often an observation finds itself again.

    Attributes:
        gap: Frames between query and candidates.
        rank_1: Part of the queries whose nearest candidate is the same object; None without a query.
        mean_reciprocal_rank: The mean over queries of 1 / rank of the same object; None without a query.
        queries: How many.
    """

    gap: int
    rank_1: float | None
    mean_reciprocal_rank: float | None
    queries: int


@torch.no_grad()
def reassociation(
    embeddings: Tensor, ids: Any, frames: Any, *, gaps: Sequence[int] = (30, 150, 450), stride: int = 1
) -> list[Reassociation]:
    """Rank, for each observation, all observations of the frame one gap later by cosine.

    An observation is a query where that frame has two candidates or more and the same object among them. Candidates
    that score as high as the right one count as before it, so that embeddings that are all alike earn nothing.

    Args:
        embeddings: ``(n, dim)``, any floating dtype; normalised here.
        ids: ``(n,)`` true identities.
        frames: ``(n,)`` integers; observations of different videos must not share a frame number.
        gaps: Frames, 1 or more each.
        stride: Queries are taken from frames that are multiples of it: neighbouring ones are nearly the same query.

    Returns:
        One result for each gap.

    Raises:
        BankTypeError: The embeddings are not floating.
        BankValueError: Shapes do not fit, a gap or the stride is below 1, or an embedding is not finite or zero.

    Example:
        >>> embeddings = torch.eye(2)[[0, 1, 0, 1]]
        >>> reassociation(embeddings, ids=[7, 8, 7, 8], frames=[0, 0, 30, 30], gaps=[30])
        [Reassociation(gap=30, rank_1=1.0, mean_reciprocal_rank=1.0, queries=2)]
    """
    identities, times = torch.as_tensor(ids), torch.as_tensor(frames)
    if not embeddings.is_floating_point():
        msg = f"embeddings are {embeddings.dtype}; expected a floating dtype"
        raise BankTypeError(msg)
    if embeddings.dim() != 2 or identities.shape != embeddings.shape[:1] or times.shape != embeddings.shape[:1]:
        msg = (
            f"embeddings are {tuple(embeddings.shape)}, ids {tuple(identities.shape)} and frames "
            f"{tuple(times.shape)}; expected (n, dim), (n,) and (n,)"
        )
        raise BankValueError(msg)
    if stride < 1 or any(gap < 1 for gap in gaps):
        msg = f"gaps are {tuple(gaps)} and stride is {stride}; expected 1 or more frames each"
        raise BankValueError(msg)
    rows = embeddings.to(torch.float32)
    bad = ~(rows.norm(dim=1) > 0) | ~rows.isfinite().all(dim=1)
    if bad.any():
        first = int(bad.nonzero()[0])
        msg = f"{int(bad.sum())} of {len(rows)} embeddings are not finite or zero, the first in row {first}"
        raise BankValueError(msg)
    rows = normalize(rows, dim=1)
    order = times.argsort(stable=True)
    labels, counts = times[order].unique_consecutive(return_counts=True)
    of_frame = dict(zip(labels.tolist(), order.split(counts.tolist()), strict=True))
    return [_one_gap(rows, identities, of_frame, gap, stride) for gap in gaps]


def _one_gap(rows: Tensor, identities: Tensor, of_frame: dict[int, Tensor], gap: int, stride: int) -> Reassociation:
    ranks = [torch.empty(0)]
    for frame, queries in of_frame.items():
        candidates = of_frame.get(frame + gap)
        if frame % stride or candidates is None or len(candidates) < 2:
            continue
        same = identities[queries][:, None] == identities[candidates]
        scores = rows[queries] @ rows[candidates].T
        right = scores.masked_fill(~same, -torch.inf).amax(dim=1, keepdim=True)
        rank = 1 + ((scores >= right) & ~same).sum(dim=1)
        ranks.append(rank[same.any(dim=1)].float())
    rank = torch.cat(ranks)
    if not len(rank):
        return Reassociation(gap, None, None, 0)
    return Reassociation(gap, (rank == 1).float().mean().item(), (1 / rank).mean().item(), len(rank))
