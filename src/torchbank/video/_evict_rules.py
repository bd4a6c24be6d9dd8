"""Evict rules: which rows of a full stream give way to a new one.

A pinned row gives way only to another pinned row, where nothing else is left. A rule that lets nothing go leaves the
new row out.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from torchbank.banks import check_size, counter_hash
from torchbank.errors import BankTypeError, BankValueError
from torchbank.video._ledger import LAST_NUMBER, Arrivals, Past
from torchbank.video._rule import Rule

__all__ = ["EvictRule", "Fifo", "LeastUsed", "PinnedAnchors", "UniformOverLifetime"]

# Of a row that no read has seen: larger than any use, and less than the infinity of what may not go.
UNJUDGED = torch.finfo(torch.float64).max


class EvictRule(Rule, ABC):
    """Says which rows make room."""

    counts_use = False
    """Whether reads must count what attention each row receives."""

    @abstractmethod
    def gives_way(self, arrivals: Arrivals, past: Past, full: Bool[Tensor, " batch"]) -> Bool[Tensor, "batch capacity"]:
        """The rows that go, if the arriving row is taken.

        Args:
            arrivals: One row for each stream of the batch.
            past: What the stream of each holds.
            full: Streams without an empty slot, whose new row is lost if nothing goes.
        """


@final
@dataclass(frozen=True)
class Fifo(EvictRule):
    """The oldest row goes: a window of the last rows.

    As in [LSTR, Xu et al. 2021](arXiv:2107.03377) and [SAM 2, Ravi et al. 2024](arXiv:2408.00714). Knows everything
    of the last ``capacity`` rows and nothing of what was before.
    """

    def gives_way(self, arrivals: Arrivals, past: Past, full: Bool[Tensor, " batch"]) -> Bool[Tensor, "batch capacity"]:
        """The row with the smallest number."""
        return oldest(past, removable(arrivals, past)) & full[:, None]


@final
@dataclass(frozen=True)
class UniformOverLifetime(EvictRule):
    """A uniform sample of all rows that the stream ever took: each is as likely to be there as any other.

    Algorithm R of [Vitter 1985](https://doi.org/10.1145/3147.3165) within each stream, its randomness a hash of seed
    and row number, so that it does not depend on batching; all streams draw alike. Reaches back to the first row with
    a chance of capacity over rows taken for each moment, so that a single short event is likely lost on a long
    stream.

    Args:
        seed: Which sample is drawn.

    Raises:
        BankValueError: ``seed`` is negative or too large.
        BankTypeError: ``seed`` is not an int.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            msg = f"seed is {self.seed!r}; expected an int"
            raise BankTypeError(msg)
        if not 0 <= self.seed < 2**63:
            msg = f"seed is {self.seed}; expected 0 to 2**63 - 1"
            raise BankValueError(msg)

    def gives_way(self, arrivals: Arrivals, past: Past, full: Bool[Tensor, " batch"]) -> Bool[Tensor, "batch capacity"]:
        """The row of a random place, if that place is among those there are; for a pinned row, any."""
        among = removable(arrivals, past)
        there = among.sum(dim=1)
        # Row number t of those that are not pinned stays with probability capacity / (t + 1).
        seen = torch.where(arrivals.pin, there, past.taken - past.anchors + 1).clamp_min(1)
        drawn = counter_hash(past.taken.new_full((), self.seed), past.taken) % seen
        return among & (among.cumsum(dim=1) - 1 == drawn[:, None]) & full[:, None]


@final
@dataclass(frozen=True)
class LeastUsed(EvictRule):
    """The row that received least attention per read goes; among equals the oldest.

    Usage over lifetime of [XMem, Cheng and Schwing 2022, section 3.3](arXiv:2207.07115), and the slack of
    [Cutie, Cheng et al. 2024](arXiv:2310.12982), which removes several rows at once so that it need not be done at
    each write. Exactly as many go as are meant to, however many are equal. A row that no read has seen yet is not
    judged: it goes only when all the others did. Needs reads; without any it is `Fifo`. Fails on what is not asked
    for until late: it is gone by then.

    Args:
        hysteresis: How many more rows go when one must.

    Raises:
        BankValueError: ``hysteresis`` is negative or, for a memory, as large as its capacity.
        BankTypeError: ``hysteresis`` is not an int.
    """

    hysteresis: int = 0
    counts_use = True

    def __post_init__(self) -> None:
        if isinstance(self.hysteresis, bool) or not isinstance(self.hysteresis, int):
            msg = f"hysteresis is {self.hysteresis!r}; expected an int"
            raise BankTypeError(msg)
        if self.hysteresis < 0:
            msg = f"hysteresis is {self.hysteresis}; expected 0 or more rows"
            raise BankValueError(msg)

    def check_capacity(self, capacity: int) -> None:
        """Raise unless rows are left."""
        if self.hysteresis >= capacity:
            msg = f"hysteresis is {self.hysteresis} and the capacity {capacity}; expected less than that"
            raise BankValueError(msg)

    def gives_way(self, arrivals: Arrivals, past: Past, full: Bool[Tensor, " batch"]) -> Bool[Tensor, "batch capacity"]:
        """The first by use, then by age."""
        among = removable(arrivals, past)
        use = torch.where(past.life > 0, past.use(), UNJUDGED).masked_fill(~among, torch.inf)
        by_age = past.number.argsort(dim=1, stable=True)
        order = by_age.gather(1, use.gather(1, by_age).argsort(dim=1, stable=True))
        first = torch.zeros_like(among).scatter_(1, order[:, : 1 + self.hysteresis], value=True)
        return first & among & full[:, None]


@final
@dataclass(frozen=True)
class PinnedAnchors(EvictRule):
    """A short window of recent rows, and the other slots for pinned ones.

    The prompted frames of [SAM 2, Ravi et al. 2024](arXiv:2408.00714) and the anchors of
    [DAM4SAM, Videnovic et al. 2025](arXiv:2411.17576) beside their last frames. Rows are pinned by ``pin=`` as they
    are written; each of the two parts lets its own oldest row go. Knows what somebody marked as it happened, and no
    other past.

    Args:
        recent: Slots for rows that are not pinned.

    Raises:
        BankValueError: ``recent`` is not positive or, for a memory, leaves no slot for anchors.
        BankTypeError: ``recent`` is not an int.
    """

    recent: int

    def __post_init__(self) -> None:
        check_size("recent", self.recent)

    def check_capacity(self, capacity: int) -> None:
        """Raise unless there is room for an anchor."""
        if self.recent >= capacity:
            msg = f"recent is {self.recent} and the capacity {capacity}; expected less, the other slots are for anchors"
            raise BankValueError(msg)

    def gives_way(
        self,
        arrivals: Arrivals,
        past: Past,
        full: Bool[Tensor, " batch"],  # noqa: ARG002
    ) -> Bool[Tensor, "batch capacity"]:
        """The oldest of the part that the new row belongs to, where that part is full."""
        own = past.valid & (past.pinned == arrivals.pin[:, None])
        room = torch.where(arrivals.pin, own.shape[1] - self.recent, self.recent)
        return oldest(past, own) & (own.sum(dim=1) >= room)[:, None]


def removable(arrivals: Arrivals, past: Past) -> Bool[Tensor, "batch capacity"]:
    """The rows that may go: those that are not pinned; if there is none, all of them to a pinned row."""
    free = past.valid & ~past.pinned
    return torch.where(free.any(dim=1, keepdim=True), free, past.valid & arrivals.pin[:, None])


def oldest(past: Past, among: Bool[Tensor, "batch capacity"]) -> Bool[Tensor, "batch capacity"]:
    """The row with the smallest number of each stream; none where there is none to choose."""
    number: Int64[Tensor, "batch capacity"] = past.number.masked_fill(~among, LAST_NUMBER)
    return among & (number == number.amin(dim=1, keepdim=True))
