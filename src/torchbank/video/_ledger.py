"""What a temporal memory knows of each row beside its embedding, and of each stream.

Axes: streams, capacity (rows of one stream), batch (streams of one write, none of them twice). Nothing here waits for
the device.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

BEFORE_ALL_TIME = -torch.inf
LAST_NUMBER = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Arrivals:
    """Rows that ask to be written: at most one for each stream.

    Attributes:
        embeddings: ``(batch, dim)``, as they would be stored.
        time: ``(batch,)`` seconds.
        quality: ``(batch,)``; 1 where none was given.
        pin: ``(batch,)``, whether the row is to stay.
        scale: Of similarities under attention, where a rule has none of its own.
    """

    embeddings: Float[Tensor, "batch dim"]
    time: Float64[Tensor, " batch"]
    quality: Float[Tensor, " batch"]
    pin: Bool[Tensor, " batch"]
    scale: float


@dataclass(frozen=True)
class Past:
    """The rows of each stream of a batch, by slot and not in order of time, before anything is written.

    Attributes:
        blocks: ``(streams, capacity, dim)`` the embeddings of all streams of the memory, see `stored`.
        streams: ``(batch,)`` which streams they are.
        time: ``(batch, capacity)`` seconds: when the row was written, or the mean of what was merged into it.
        latest: ``(batch, capacity)`` seconds: the newest moment that the row contains anything of.
        size: ``(batch, capacity)``: how many rows that were written it stands for; 0 for an empty slot.
        usage: ``(batch, capacity)``: the attention that it ever received.
        life: ``(batch, capacity)``: the reads that could see it.
        number: ``(batch, capacity)``: the how-many-th row of its stream it is; tells the order in time.
        pinned: ``(batch, capacity)``: whether it is to stay.
        mixed: ``(batch, capacity)``: whether it was rewritten from several rows.
        offered: ``(batch,)``: rows that the stream was offered before.
        taken: ``(batch,)``: rows that passed its write rules before.
        anchors: ``(batch,)``: how many of those were pinned.
        now: ``(batch,)`` seconds: the latest time that the stream was offered a row of.
    """

    blocks: Float[Tensor, "streams capacity dim"]
    streams: Int64[Tensor, " batch"]
    time: Float64[Tensor, "batch capacity"]
    latest: Float64[Tensor, "batch capacity"]
    size: Float64[Tensor, "batch capacity"]
    usage: Float64[Tensor, "batch capacity"]
    life: Int64[Tensor, "batch capacity"]
    number: Int64[Tensor, "batch capacity"]
    pinned: Bool[Tensor, "batch capacity"]
    mixed: Bool[Tensor, "batch capacity"]
    offered: Int64[Tensor, " batch"]
    taken: Int64[Tensor, " batch"]
    anchors: Int64[Tensor, " batch"]
    now: Float64[Tensor, " batch"]

    @property
    def stored(self) -> Float[Tensor, "batch capacity dim"]:
        """The embeddings of the batch, of any finite value where not `valid`; may be the bank itself."""
        return self.blocks if len(self.streams) == len(self.blocks) else self.blocks[self.streams]

    @property
    def valid(self) -> Bool[Tensor, "batch capacity"]:
        """Which slots hold a row."""
        return self.size > 0

    def use(self) -> Float64[Tensor, "batch capacity"]:
        """Attention per read, 0 for a row that no read has seen yet."""
        return self.usage / self.life.clamp_min(1)


@dataclass(frozen=True)
class Rewrite:
    """What a compression makes of the rows of each stream.

    Attributes:
        applies: ``(batch,)``: False where nothing could be compressed; the rest has no meaning then.
        absorbed: ``(batch,)``: whether the arriving row went into one of these.
        freed: ``(batch, capacity)``: rows that are no longer needed.
        place: ``(batch, rows)`` slots of the stream that are written anew, none twice and none of them freed.
        embeddings: ``(batch, rows, dim)``.
        time: ``(batch, rows)``, with the next four as in `Past`.
        latest: ``(batch, rows)``.
        size: ``(batch, rows)``.
        usage: ``(batch, rows)``.
        life: ``(batch, rows)``.
    """

    applies: Bool[Tensor, " batch"]
    absorbed: Bool[Tensor, " batch"]
    freed: Bool[Tensor, "batch capacity"]
    place: Int64[Tensor, "batch rows"]
    embeddings: Float[Tensor, "batch rows dim"]
    time: Float64[Tensor, "batch rows"]
    latest: Float64[Tensor, "batch rows"]
    size: Float64[Tensor, "batch rows"]
    usage: Float64[Tensor, "batch rows"]
    life: Int64[Tensor, "batch rows"]


ROW_COLUMNS = {
    "time": torch.float64,
    "latest": torch.float64,
    "size": torch.float64,
    "usage": torch.float64,
    "life": torch.int64,
    "number": torch.int64,
    "pinned": torch.bool,
    "mixed": torch.bool,
}
STREAM_COLUMNS = {"offered": torch.int64, "taken": torch.int64, "anchors": torch.int64, "now": torch.float64}


class Ledger(nn.Module):
    """The columns of `Past` for all streams, as buffers: ``(streams, capacity)`` and ``(streams,)``.

    Args:
        streams: How many streams there are.
        capacity: Rows of each.
    """

    size: Tensor
    usage: Tensor
    life: Tensor
    mixed: Tensor
    now: Tensor

    def __init__(self, streams: int, capacity: int) -> None:
        super().__init__()
        self.streams, self.capacity = streams, capacity
        for name, dtype in ROW_COLUMNS.items():
            self.register_buffer(name, torch.zeros(streams, capacity, dtype=dtype))
        for name, dtype in STREAM_COLUMNS.items():
            self.register_buffer(name, torch.zeros(streams, dtype=dtype))
        self.now.fill_(BEFORE_ALL_TIME)

    def past(self, streams: Int64[Tensor, " batch"], embeddings: Float[Tensor, "slots dim"]) -> Past:
        """The rows of some streams: copies, or the columns themselves for all streams in order."""
        columns = {name: self.of(name, streams) for name in (*ROW_COLUMNS, *STREAM_COLUMNS)}
        blocks = embeddings.view(self.streams, self.capacity, -1)
        return Past(blocks=blocks, streams=streams, **columns)

    def covers(self, streams: Int64[Tensor, " batch"]) -> bool:
        """Whether streams of a write, which are in order and none of them twice, are all there are."""
        return streams.shape[0] == self.streams

    def of(self, name: str, streams: Int64[Tensor, " batch"]) -> Tensor:
        """A column for the streams of a write."""
        column = self.get_buffer(name)
        return column if self.covers(streams) else column[streams]

    def offer(
        self, streams: Int64[Tensor, " batch"], now: Float64[Tensor, " batch"], offered: Bool[Tensor, " batch"]
    ) -> None:
        """Note the time of each stream, and count one more row for those that were offered one."""
        self.get_buffer("offered").index_add_(0, streams, offered.to(torch.int64))
        self.now[streams] = now

    def free(self, streams: Int64[Tensor, " batch"], gone: Bool[Tensor, "batch capacity"]) -> None:
        """Empty slots."""
        self.size[streams] = self.of("size", streams).masked_fill(gone, 0)

    def enter(
        self,
        streams: Int64[Tensor, " batch"],
        place: Int64[Tensor, " batch"],
        kept: Bool[Tensor, " batch"],
        taken: Bool[Tensor, " batch"],
        arrivals: Arrivals,
    ) -> None:
        """Note what is written: a new row at ``place`` where ``kept``; count those that passed the write rules."""
        number = self.get_buffer("taken")[streams]
        fresh = {
            "time": arrivals.time,
            "latest": arrivals.time,
            "size": torch.ones_like(arrivals.time),
            "usage": torch.zeros_like(arrivals.time),
            "life": torch.zeros_like(number),
            "number": number,
            "pinned": arrivals.pin,
            "mixed": torch.zeros_like(kept),
        }
        for name, values in fresh.items():
            column = self.get_buffer(name)
            column[streams, place] = torch.where(kept, values, column[streams, place])
        self.get_buffer("taken").index_add_(0, streams, taken.to(torch.int64))
        self.get_buffer("anchors").index_add_(0, streams, (taken & arrivals.pin).to(torch.int64))

    def rewrite(self, streams: Int64[Tensor, " batch"], rewrite: Rewrite) -> None:
        """Note what a compression did."""
        at, applies = (streams[:, None], rewrite.place), rewrite.applies[:, None]
        for name in ("time", "latest", "size", "usage", "life"):
            column = self.get_buffer(name)
            column[at] = torch.where(applies, getattr(rewrite, name), column[at])
        self.mixed[at] = applies | self.mixed[at]
        self.free(streams, rewrite.freed & applies)

    def count(
        self,
        streams: Int64[Tensor, " queries"],
        weights: Float[Tensor, "queries capacity"],
        seen: Bool[Tensor, "queries capacity"],
    ) -> None:
        """Note a read: the attention that each row received, and which rows it could see."""
        self.usage.index_add_(0, streams, weights.to(torch.float64))
        self.life.index_add_(0, streams, seen.to(torch.int64))

    def reset(self, streams: Int64[Tensor, " batch"]) -> None:
        """Forget all of some streams."""
        for name in (*ROW_COLUMNS, *STREAM_COLUMNS):
            self.get_buffer(name).index_fill_(0, streams, 0)
        self.now.index_fill_(0, streams, BEFORE_ALL_TIME)
