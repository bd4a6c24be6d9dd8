"""Triplets whose rows lie in several parts, each with its own reader: what the readers tell each other.

All of them need the scores of all positives; the negatives stay where they are.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor


class PositivePairs(NamedTuple):
    """Queries with their positives.

    Attributes:
        query: ``(pairs,)`` int64, which query.
        scores: ``(pairs,)``.
        weights: ``(pairs,)``, of the rows; None is 1 for all.
    """

    query: Int64[Tensor, " pairs"]
    scores: Float[Tensor, " pairs"]
    weights: Float[Tensor, " pairs"] | None


@runtime_checkable
class Others(Protocol):
    """Those who read the other parts of the rows for the same queries."""

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag of any part is set."""
        ...

    def join(self, pairs: PositivePairs) -> tuple[PositivePairs, slice]:
        """The pairs of all parts, and where those of this one are among them."""
        ...

    def total(self, values: Tensor) -> Tensor:
        """The sum over all parts."""
        ...


class NoOthers:
    """All rows are here."""

    def any(self, flag: bool, device: torch.device) -> bool:  # noqa: ARG002
        """See `Others`."""
        return flag

    def join(self, pairs: PositivePairs) -> tuple[PositivePairs, slice]:
        """See `Others`."""
        return pairs, slice(None)

    def total(self, values: Tensor) -> Tensor:
        """See `Others`."""
        return values


ALONE = NoOthers()
