"""How well each of two sides finds its partner: a word its definition, and a definition its word."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from torchbank.banks import Rows
from torchbank.errors import BankTypeError, BankValueError

__all__ = ["PairedScores", "paired_retrieval"]

QUERIES_AT_ONCE = 512


@dataclass(frozen=True)
class PairedScores:
    """Shares of the pairs, each in [0, 1].

    Attributes:
        forward: For each k, how often the second side's partner is among the k nearest to a row of the first side.
        backward: For each k, the same from the second side to the first.
        pairs: How many pairs there are.
    """

    forward: dict[int, float]
    backward: dict[int, float]
    pairs: int

    def as_dict(self) -> dict[str, int | float]:
        """Flatten to names and numbers, for logs: `forward_recall_at_1`, `backward_recall_at_1` and so on."""
        sides = (("forward", self.forward), ("backward", self.backward))
        recall = {f"{side}_recall_at_{k}": value for side, scores in sides for k, value in scores.items()}
        return {**recall, "pairs": self.pairs}


@torch.no_grad()
def paired_retrieval(first: Tensor, second: Tensor, *, ks: Sequence[int] = (1, 10)) -> PairedScores:
    """Look for the partner of each row among all rows of the other side, by cosine.

    A row of the other side that scores as much as the partner counts as nearer, so that embeddings that are all
    equal find nothing.

    Args:
        first: `(n, d)`, any floating dtype; normalised here. Row i is the partner of row i of `second`.
        second: `(n, d)`, on the same device.
        ks: The k of each R@K.

    Raises:
        BankTypeError: The embeddings are not floating.
        BankValueError: The shapes do not fit, there are no pairs, or a k is below 1.

    Example:
        >>> words = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> meanings = torch.tensor([[1.0, 0.1], [0.1, 1.0], [1.0, 0.0]])
        >>> paired_retrieval(words, meanings, ks=(1, 3)).as_dict()["forward_recall_at_1"]
        0.3333333333333333
    """
    _check(first, second, ks)
    first, second = normalize(first, dim=1), normalize(second, dim=1)
    return PairedScores(_recall(first, second, ks), _recall(second, first, ks), len(first))


def _recall(queries: Float[Tensor, "n dim"], gallery: Float[Tensor, "n dim"], ks: Sequence[int]) -> dict[int, float]:
    hits = torch.zeros(len(ks), dtype=torch.int64, device=queries.device)
    for own in torch.arange(len(queries), device=queries.device).split(QUERIES_AT_ONCE):
        # One place more than asked for: the partner is among the first k where the next one scores less than it.
        scores, slots, _ = Rows(gallery).nearest(queries[own], max(ks) + 1)
        partner = scores.masked_fill(slots != own[:, None], -torch.inf).amax(dim=1, keepdim=True)
        hits += (scores[:, list(ks)] < partner).sum(dim=0)
    return {k: hit / len(queries) for k, hit in zip(ks, hits.tolist(), strict=True)}


def _check(first: Tensor, second: Tensor, ks: Sequence[int]) -> None:
    if not first.is_floating_point() or first.dtype != second.dtype:
        msg = f"the sides are {first.dtype} and {second.dtype}; expected floating embeddings of one dtype"
        raise BankTypeError(msg)
    if first.dim() != 2 or first.shape != second.shape or first.device != second.device or not len(first):
        msg = (
            f"the sides are {tuple(first.shape)} on {first.device} and {tuple(second.shape)} on {second.device}; "
            "expected two of shape (pairs, dim) on one device, with one pair or more"
        )
        raise BankValueError(msg)
    if not ks or min(ks) < 1:
        msg = f"ks is {tuple(ks)}; expected ranks of 1 or more"
        raise BankValueError(msg)
