"""Compress rules: how a full stream makes room by rewriting rows instead of losing one.

Where nothing can be compressed, because all rows are pinned, say, the evict rule decides.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from torchbank.banks import check_size
from torchbank.errors import BankValueError
from torchbank.video._ledger import LAST_NUMBER, Arrivals, Past, Rewrite
from torchbank.video._rule import Rule

__all__ = ["CompressRule", "MergeNeighbours", "Prototypes"]


class CompressRule(Rule, ABC):
    """Says what the rows of a full stream become."""

    counts_use = False
    """Whether reads must count what attention each row receives."""

    @abstractmethod
    def compress(self, arrivals: Arrivals, past: Past) -> Rewrite:
        """What becomes of each stream of the batch, as if all of them were full.

        Args:
            arrivals: One row for each stream.
            past: What the stream of each holds; where an empty slot is left, the answer is not used.
        """


@final
@dataclass(frozen=True)
class MergeNeighbours(CompressRule):
    """The two neighbours in time that are most alike become one row, the mean of all that was merged into them.

    [MA-LMM, He et al. 2024, section 3.2](arXiv:2404.05726), with the new row as the last neighbour. Rows count by how
    many they stand for, so that a row is at any time the plain mean of a run of rows that were written, and the rows
    of a stream part all that it ever took. Its time is the mean of theirs; fields and place are those of the older
    row; under cosine it is shorter than 1, and its similarity is the mean of theirs. Pinned rows are not merged.
    Fails where a short event looks like what was before it: it is averaged away.
    """

    def compress(self, arrivals: Arrivals, past: Past) -> Rewrite:
        """The first of the most similar pairs."""
        order = past.number.argsort(dim=1, stable=True)
        line = torch.cat([_take_rows(past.stored, order), arrivals.embeddings[:, None]], dim=1).float()
        free = torch.cat([~past.pinned.gather(1, order), ~arrivals.pin[:, None]], dim=1)
        mergeable = free[:, :-1] & free[:, 1:]
        alike = torch.cosine_similarity(line[:, :-1], line[:, 1:], dim=2).masked_fill(~mergeable, -torch.inf)
        first = alike.argmax(dim=1, keepdim=True)
        pair = torch.cat([first, first + 1], dim=1)
        size = _of_pair(past.size, torch.ones_like(arrivals.time), order, pair)
        time, latest = (_of_pair(column, arrivals.time, order, pair) for column in (past.time, past.latest))
        total = size.sum(dim=1, keepdim=True)
        share = size / total.clamp_min(1)
        # Of the newest row the neighbour is the one that arrives, which has no slot and no use.
        absorbed = pair[:, 1] == order.shape[1]
        place, other = order.gather(1, pair.clamp_max(order.shape[1] - 1)).split(1, dim=1)
        usage = past.usage.gather(1, place) + past.usage.gather(1, other).masked_fill(absorbed[:, None], 0)
        return Rewrite(
            applies=mergeable.any(dim=1),
            absorbed=absorbed,
            freed=torch.zeros_like(past.valid).scatter(1, other, ~absorbed[:, None]),
            place=place,
            embeddings=share.float()[:, None] @ _take_rows(line, pair),
            time=(share * time).sum(dim=1, keepdim=True),
            latest=latest.amax(dim=1, keepdim=True),
            size=total,
            usage=usage,
            life=torch.maximum(past.life.gather(1, place), past.life.gather(1, other)),
        )


@final
@dataclass(frozen=True)
class Prototypes(CompressRule):
    """The oldest rows become a few prototypes: the most used of them, each made into a readout of all of them.

    Memory consolidation and potentiation of [XMem, Cheng and Schwing 2022, section 3.3](arXiv:2207.07115). Of the
    ``candidates`` oldest rows that are neither pinned nor prototypes already, the ``count`` that received most
    attention per read stay; each becomes the softmax attention over all candidates with itself as the query, and the
    others are dropped. When prototypes have filled a stream so far that fewer than ``candidates`` rows are left, the
    evict rule makes room, as `LeastUsed` does in the paper. The sizes of the candidates are parted among the
    prototypes, so that their sum is kept. Without reads the oldest candidates stay. Fails as `LeastUsed` does.

    Args:
        count: Prototypes made at once.
        candidates: Rows that they are made of, more than ``count``.
        scale: Of the similarities; None is 1 / sqrt(dim) under dot and sqrt(dim) under cosine.

    Raises:
        BankValueError: A number is not positive, or ``count`` not less than ``candidates``.
        BankTypeError: A number is not an int.
    """

    count: int
    candidates: int
    scale: float | None = None
    counts_use = True

    def __post_init__(self) -> None:
        check_size("count", self.count)
        check_size("candidates", self.candidates)
        if self.count >= self.candidates:
            msg = f"count is {self.count} and candidates {self.candidates}; expected fewer prototypes than candidates"
            raise BankValueError(msg)
        if self.scale is not None and not (self.scale > 0 and math.isfinite(self.scale)):
            msg = f"scale is {self.scale}; expected a positive number, or None"
            raise BankValueError(msg)

    def check_capacity(self, capacity: int) -> None:
        """Raise unless there can be so many candidates."""
        if self.candidates > capacity:
            msg = f"candidates is {self.candidates} and the capacity {capacity}; expected at most that"
            raise BankValueError(msg)

    def compress(self, arrivals: Arrivals, past: Past) -> Rewrite:
        """Prototypes of the oldest rows."""
        raw = past.valid & ~past.pinned & ~past.mixed
        ranked = past.number.masked_fill(~raw, LAST_NUMBER)
        group = ranked.argsort(dim=1, stable=True)[:, : self.candidates]
        chosen = past.use().gather(1, group).argsort(dim=1, descending=True, stable=True)[:, : self.count]
        place = group.gather(1, chosen)
        rows = _take_rows(past.stored, group).float()
        scale = arrivals.scale if self.scale is None else self.scale
        alike = _take_rows(rows, chosen) @ rows.mT * scale
        size = past.size.gather(1, group)
        parts = (torch.softmax(alike.double(), dim=1) * size[:, None]).sum(dim=2)
        newest = past.latest.gather(1, group).amax(dim=1, keepdim=True)
        freed = torch.zeros_like(past.valid).scatter(1, group, value=True).scatter(1, place, value=False)
        return Rewrite(
            applies=raw.sum(dim=1) >= self.candidates,
            absorbed=torch.zeros_like(arrivals.pin),
            freed=freed,
            place=place,
            embeddings=torch.softmax(alike, dim=2) @ rows,
            time=past.time.gather(1, place),
            latest=newest.expand(-1, self.count),
            size=parts,
            usage=past.usage.gather(1, place),
            life=past.life.gather(1, place),
        )


def _take_rows(
    rows: Float[Tensor, "batch rows dim"], places: Int64[Tensor, "batch taken"]
) -> Float[Tensor, "batch taken dim"]:
    """The rows at some places of each stream."""
    return rows.gather(1, places[:, :, None].expand(-1, -1, rows.shape[2]))


def _of_pair(
    column: Float64[Tensor, "batch capacity"],
    new: Float64[Tensor, " batch"],
    order: Int64[Tensor, "batch capacity"],
    pair: Int64[Tensor, "batch 2"],
) -> Float64[Tensor, "batch 2"]:
    """What stands in a column for two neighbours of the line of rows, of which the new one is the last."""
    return torch.cat([column.gather(1, order), new[:, None]], dim=1).gather(1, pair)
