"""Write rules: which arriving rows a memory takes in at all.

Several rules together take a row that all of them take. A pinned row is always taken.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool
from torch import Tensor

from torchbank.banks import check_size
from torchbank.errors import BankValueError
from torchbank.video._ledger import Arrivals, Past
from torchbank.video._rule import Rule

__all__ = ["EveryNth", "Novelty", "Quality", "WriteRule"]


class WriteRule(Rule, ABC):
    """Says which rows are worth keeping."""

    needs_quality = False
    """Whether every write must give ``quality=``."""

    @abstractmethod
    def takes(self, arrivals: Arrivals, past: Past) -> Bool[Tensor, " batch"]:
        """Which of the arriving rows are taken.

        Args:
            arrivals: At most one row for each stream.
            past: What the stream of each holds.
        """


@final
@dataclass(frozen=True)
class EveryNth(WriteRule):
    """The first row that a stream is offered and every n-th after it.

    The stride of [STM, Oh et al. 2019](arXiv:1904.00607) and [XMem, Cheng and Schwing 2022](arXiv:2207.07115), which
    write every fifth frame. Fails on events that are shorter than the stride.

    Args:
        n: The stride, in rows offered; 1 takes all.

    Raises:
        BankValueError: ``n`` is not positive.
        BankTypeError: ``n`` is not an int.
    """

    n: int = 1

    def __post_init__(self) -> None:
        check_size("n", self.n)

    def takes(self, arrivals: Arrivals, past: Past) -> Bool[Tensor, " batch"]:  # noqa: ARG002
        """Those whose number is a multiple of n."""
        return past.offered % self.n == 0


@final
@dataclass(frozen=True)
class Quality(WriteRule):
    """Rows whose quality, given with each write, is good enough.

    What [SAMURAI, Yang et al. 2024](arXiv:2411.11922) and [DAM4SAM, Videnovic et al. 2025](arXiv:2411.17576) add to
    SAM 2, which also writes frames where the object is absent. Quality may be a detection score, a predicted mask
    overlap or a sharpness; NaN is not good enough. Fails where the quality does not tell of errors.

    Args:
        threshold: The least quality that is taken.

    Raises:
        BankValueError: ``threshold`` is NaN.
    """

    threshold: float
    needs_quality = True

    def __post_init__(self) -> None:
        if math.isnan(self.threshold):
            msg = "threshold is NaN; expected the least quality of a row that is taken"
            raise BankValueError(msg)

    def takes(self, arrivals: Arrivals, past: Past) -> Bool[Tensor, " batch"]:  # noqa: ARG002
        """Those that reach the threshold."""
        return arrivals.quality >= self.threshold


@final
@dataclass(frozen=True)
class Novelty(WriteRule):
    """Rows that differ from everything the stream holds.

    The admission gate of appearance galleries. A still scene is stored once, so that a capacity spans more time; slow
    change passes too, since each row is compared with what was kept. Fails where noise between two frames is larger
    than what tells one moment from another.

    Args:
        threshold: The least cosine distance to any row of the stream, 0 to 2.

    Raises:
        BankValueError: ``threshold`` is not between 0 and 2.
    """

    threshold: float

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 2:
            msg = f"threshold is {self.threshold}; expected a cosine distance, 0 to 2"
            raise BankValueError(msg)

    def takes(self, arrivals: Arrivals, past: Past) -> Bool[Tensor, " batch"]:
        """Those whose nearest row is far enough, and the first of a stream."""
        new = arrivals.embeddings[:, None].float()
        similarities = torch.cosine_similarity(new, past.stored.float(), dim=2)
        nearest = similarities.masked_fill(~past.valid, -torch.inf).amax(dim=1)
        return 1 - nearest >= self.threshold
