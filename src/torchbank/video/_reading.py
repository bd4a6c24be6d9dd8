"""Reading a temporal memory: what each query may see, and what it gets of it.

Axes: batch (queries), capacity (slots of a stream).
"""

from abc import ABC
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor, nn

from torchbank.banks import check_embeddings
from torchbank.errors import BankValueError
from torchbank.video import _doors
from torchbank.video._context import Context, Window
from torchbank.video._ledger import Ledger
from torchbank.video._live_rows import Graphs
from torchbank.video._offer import streams_or_none
from torchbank.video._read_rules import ReadRule, Seen
from torchbank.video._rule import check_rule
from torchbank.video._stream_bank import StreamBank


class Reading(ABC):
    """The reads of a `TemporalMemory`, which change no row."""

    dim: int
    capacity: int
    streams: int
    metric: str
    scale: float
    read_rule: ReadRule
    bank: StreamBank
    _graphs: Graphs

    @property
    def ledger(self) -> Ledger:
        """What is known of each row and each stream."""
        return self.bank.rule.ledger

    @property
    def device(self) -> torch.device:
        """Where the memory lies, and queries and features must be."""
        return self.bank.device

    def read(
        self,
        queries: Tensor,
        *,
        time: _doors.Times | None = None,
        stream_ids: Tensor | Sequence[int] | None = None,
        causal: bool = True,
        window: float | None = None,
        read: ReadRule | None = None,
    ) -> Context:
        """What each query gets of its stream.

        A row counts as what is newest in it: of rows that were merged, nothing is seen before the last of them. For
        rules that go by use, a read is a use.

        Args:
            queries: ``(batch, dim)`` of any floating dtype.
            time: Seconds, of each query; None is the latest moment of its stream.
            stream_ids: ``(batch,)`` int64, best on the CPU. None: query i is of stream i, or all are of the only one.
            causal: Nothing newer than the query's time is seen; False sees both sides.
            window: Seconds that are seen: before the time, or, if not causal, half of them on each side. None for all.
            read: A rule for this time; None for the memory's own.

        Returns:
            `Context`. Of nothing its value and weights are 0.

        Raises:
            BankValueError: A shape or device does not fit, or the window is negative.
            BankTypeError: A dtype or rule is of the wrong type.
            BankKeyError: There is no such stream.
        """
        self._check_queries(queries)
        _doors.check_window(window)
        rule = self.read_rule if read is None else check_rule("read", read, ReadRule)
        streams = self._streams_of(stream_ids, queries.shape[0])
        times = None if time is None else _doors.as_times(time, queries.shape[0], self.device)
        valid = self._visible(streams, times, causal=causal, window=window)
        return self._read(queries, streams, valid, rule)

    def window(
        self,
        time: _doors.Times | None = None,
        *,
        stream_ids: Tensor | Sequence[int] | None = None,
        causal: bool = True,
        seconds: float | None = None,
    ) -> Window:
        """All rows that a query of some time may see, as for `read`, for a head that reads them itself.

        Args:
            time: Seconds; None is the latest moment of each stream.
            stream_ids: ``(batch,)`` int64; None for each stream once.
            causal: Nothing newer than the time; False sees both sides.
            seconds: The length of the window; None for all.

        Returns:
            `Window`, ``capacity`` long.

        Raises:
            BankError: As `read` does.
        """
        _doors.check_window(seconds)
        count = self.streams if stream_ids is None else len(stream_ids)
        streams = self._streams_of(stream_ids, count)
        times = None if time is None else _doors.as_times(time, count, self.device)
        valid = self._visible(streams, times, causal=causal, window=seconds)
        rows = self._rows(streams, torch.float32).masked_fill(~valid[:, :, None], 0)
        return Window(rows, self.ledger.get_buffer("time")[streams], valid)

    def _streams_of(self, stream_ids: Tensor | Sequence[int] | None, rows: int) -> Int64[Tensor, " batch"]:
        given = streams_or_none(stream_ids, rows, self.streams)
        if given is None:
            make = torch.arange if self.streams > 1 else torch.zeros
            return make(rows, dtype=torch.int64, device=self.device)
        return given.to(self.device, non_blocking=True)

    def _visible(
        self,
        streams: Int64[Tensor, " batch"],
        times: Float64[Tensor, " batch"] | None,
        *,
        causal: bool,
        window: float | None,
        strictly: bool = False,
    ) -> Bool[Tensor, "batch capacity"]:
        """The rows that each query may see."""
        size, time, latest = (self.ledger.get_buffer(name)[streams] for name in ("size", "time", "latest"))
        now = (self.ledger.now[streams] if times is None else times)[:, None]
        valid = size > 0
        if causal:
            valid = valid & ((latest < now) if strictly else (latest <= now))
        if window is not None:
            valid = valid & ((time >= now - window) if causal else ((time - now).abs() <= window / 2))
        return valid

    def _rows(self, streams: Int64[Tensor, " batch"], dtype: torch.dtype) -> Tensor:
        """A copy of all slots of each stream, with the graphs that are kept: once, if there is only one stream."""
        owners = streams if self.streams > 1 else streams.new_zeros(1)
        rows = self.bank.embeddings.view(self.streams, self.capacity, self.dim)[owners].to(dtype)
        written = self.bank.generations, self.ledger.mixed.flatten()
        return self._graphs.lay_over(rows, self._slots_of(owners), written)

    def _slots_of(self, streams: Int64[Tensor, " batch"]) -> Int64[Tensor, "batch capacity"]:
        return streams[:, None] * self.capacity + torch.arange(self.capacity, device=self.device)

    def _read(
        self,
        queries: Tensor,
        streams: Int64[Tensor, " batch"],
        valid: Bool[Tensor, "batch capacity"],
        rule: ReadRule,
    ) -> Context:
        dtype = torch.promote_types(queries.dtype, torch.float32)
        with torch.autocast(self.device.type, enabled=False):
            asked = queries.to(dtype)
            asked = nn.functional.normalize(asked, dim=1) if self.metric == "cosine" else asked
            sizes = self.ledger.size[streams]
            value, weights = rule.read(Seen(asked, self._rows(streams, dtype), sizes, valid, self.scale))
        if self.bank.rule.counts_use:
            self.ledger.count(streams, weights.detach(), valid)
        return Context(value, weights, self._slots_of(streams), self.ledger.get_buffer("time")[streams], valid)

    def _check_queries(self, queries: Tensor, rows: int | None = None) -> None:
        check_embeddings(queries, self.dim, self.device, "queries")
        if rows is not None and queries.shape[0] != rows:
            msg = f"there are {queries.shape[0]} queries and {rows} features; expected one query for each"
            raise BankValueError(msg)
