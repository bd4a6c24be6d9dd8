"""Read rules: what a query gets of the rows that it may see.

Every rule masks what a query may not see, and of nothing gives zeros.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from torchbank.banks import check_size
from torchbank.errors import BankValueError
from torchbank.video._rule import Rule

__all__ = ["Attention", "Average", "Maximum", "Nearest", "ReadRule", "Seen"]


@dataclass(frozen=True)
class Seen:
    """What each query sees.

    Attributes:
        queries: ``(batch, dim)``, of unit length under cosine.
        rows: ``(batch, capacity, dim)`` in the dtype of the queries, of any finite value where not ``valid``; or
            ``(1, capacity, dim)``, the same for all queries.
        sizes: ``(batch, capacity)``: how many rows that were written each stands for.
        valid: ``(batch, capacity)``: which rows the query may see.
        scale: Of similarities under attention, where the rule has none: 1 / sqrt(dim) for dot products, and
            sqrt(dim) for cosines, which is the same for vectors whose values have variance 1.
    """

    queries: Float[Tensor, "batch dim"]
    rows: Float[Tensor, "#batch capacity dim"]
    sizes: Float64[Tensor, "batch capacity"]
    valid: Bool[Tensor, "batch capacity"]
    scale: float

    def similarities(self) -> Float[Tensor, "batch capacity"]:
        """Of each query to its rows; the smallest number there is for rows that it may not see."""
        shared = self.rows.shape[0] == 1
        products = self.queries @ self.rows[0].mT if shared else torch.einsum("bd,bcd->bc", self.queries, self.rows)
        # Not -inf: the softmax of a row of them is NaN, and its gradient as well.
        return products.masked_fill(~self.valid, torch.finfo(products.dtype).min)

    def mean(self, weights: Float[Tensor, "batch capacity"]) -> Float[Tensor, "batch dim"]:
        """The rows, weighted."""
        return weights @ self.rows[0] if self.rows.shape[0] == 1 else torch.einsum("bc,bcd->bd", weights, self.rows)


class ReadRule(Rule, ABC):
    """Makes one vector of what a query sees."""

    @abstractmethod
    def read(self, seen: Seen) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch capacity"]]:
        """The value, and how much of it came from each row: weights that sum to 1, or 0 where nothing is seen."""


@final
@dataclass(frozen=True)
class Attention(ReadRule):
    """Softmax attention with the rows as keys and values, over all rows or the most similar ones.

    [Vaswani et al. 2017, eq. 1](arXiv:1706.03762); the ``top_k`` of [XMem, Cheng and Schwing 2022](arXiv:2207.07115),
    which reads with 30. Rows that a query may not see have no part in the softmax. Differentiable in the queries.

    Args:
        scale: Of the similarities; None is 1 / sqrt(dim) under dot and sqrt(dim) under cosine. Large scales read the
            nearest row alone.
        top_k: How many rows take part; None for all.

    Raises:
        BankValueError: ``scale`` is not positive and finite, or ``top_k`` is not positive.
        BankTypeError: ``top_k`` is not an int.
    """

    scale: float | None = None
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not (self.scale > 0 and math.isfinite(self.scale)):
            msg = f"scale is {self.scale}; expected a positive number, or None"
            raise BankValueError(msg)
        if self.top_k is not None:
            check_size("top_k", self.top_k)

    def read(self, seen: Seen) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch capacity"]]:
        """The mean of the rows under the softmax, which subtracts the largest similarity."""
        similarities, valid = seen.similarities(), seen.valid
        if self.top_k is not None and self.top_k < valid.shape[1]:
            valid = valid & _largest(similarities, self.top_k)
        weights = masked_softmax(similarities, valid, seen.scale if self.scale is None else self.scale)
        return seen.mean(weights), weights


@final
@dataclass(frozen=True)
class Average(ReadRule):
    """The mean of all rows, each as often as it stands for rows that were written.

    The pooling of [long-term feature banks, Wu et al. 2019, section 3.4](arXiv:1812.05038). After merging it is the
    mean of everything that was written. Ignores the query, and dilutes what was short.
    """

    def read(self, seen: Seen) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch capacity"]]:
        """The weighted mean."""
        sizes = seen.sizes.masked_fill(~seen.valid, 0)
        total = sizes.sum(dim=1, keepdim=True)
        weights = (sizes / torch.where(total > 0, total, 1)).to(seen.rows.dtype)
        return seen.mean(weights), weights


@final
@dataclass(frozen=True)
class Maximum(ReadRule):
    """The largest value of each dim over all rows.

    The pooling of [long-term feature banks, Wu et al. 2019, section 3.4](arXiv:1812.05038), best of theirs where it
    matters whether a thing was there at all. Its weights are the share of dims that each row gave.
    """

    def read(self, seen: Seen) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch capacity"]]:
        """The maximum."""
        value, row = seen.rows.masked_fill(~seen.valid[:, :, None], -torch.inf).max(dim=1)
        found = seen.valid.any(dim=1, keepdim=True)
        share = torch.full_like(value, 1 / value.shape[1]).detach()
        weights = torch.zeros_like(seen.sizes, dtype=value.dtype).scatter_add_(1, row, share)
        return value.masked_fill(~found, 0), weights.masked_fill(~found, 0)


@final
@dataclass(frozen=True)
class Nearest(ReadRule):
    """The mean of the k most similar rows.

    The memory lookup of [Memorizing Transformers, Wu et al. 2022](arXiv:2203.08913) without its softmax. No gradient
    reaches the queries. Two moments that look alike are not told apart.

    Args:
        k: How many rows; fewer where there are fewer.

    Raises:
        BankValueError: ``k`` is not positive.
        BankTypeError: ``k`` is not an int.
    """

    k: int = 1

    def __post_init__(self) -> None:
        check_size("k", self.k)

    def read(self, seen: Seen) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch capacity"]]:
        """The mean."""
        chosen = _largest(seen.similarities().detach(), self.k) & seen.valid
        weights = chosen.to(seen.rows.dtype) / chosen.sum(dim=1, keepdim=True).clamp_min(1)
        return seen.mean(weights), weights


def masked_softmax(
    scores: Float[Tensor, "batch rows"], valid: Bool[Tensor, "batch rows"], scale: float
) -> Float[Tensor, "batch rows"]:
    """The softmax of scaled scores over what is valid; 0 of nothing, and so is its gradient."""
    if scores.shape[1] == 0:
        return scores
    lowest = torch.finfo(scores.dtype).min
    # Before the scale, which may be large: what is left of the largest score is 0.
    top = scores.detach().masked_fill(~valid, lowest).amax(dim=1, keepdim=True)
    scaled = (scores - top).masked_fill(~valid, 0) * scale
    return torch.softmax(scaled.masked_fill(~valid, lowest), dim=1).masked_fill(~valid, 0)


def _largest(similarities: Float[Tensor, "batch capacity"], k: int) -> Bool[Tensor, "batch capacity"]:
    """Where the k largest are: exactly k, however many are equal."""
    best = similarities.topk(min(k, similarities.shape[1]), dim=1).indices
    return torch.zeros_like(similarities, dtype=torch.bool).scatter_(1, best, value=True)
