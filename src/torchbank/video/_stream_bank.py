"""The bank under a temporal memory: some rows of each of many streams.

Axes: streams, capacity (rows of one stream), batch (rows of one push). A stream owns ``capacity`` slots in a row. A
push holds at most one row for each stream, in order of the streams.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from torchbank.banks import NOT_KEPT, REFUSED, Bank, BankView, Replacement
from torchbank.video._compress_rules import CompressRule
from torchbank.video._evict_rules import EvictRule
from torchbank.video._ledger import Arrivals, Ledger, Past, Rewrite
from torchbank.video._write_rules import WriteRule

INPUTS = ("stream", "time", "quality", "pin")


class StreamRule(Replacement):
    """Asks the write rules what to take, makes room by the compress and evict rules, and keeps the ledger.

    Args:
        streams: How many streams there are.
        capacity: Rows of each.
        scale: Of similarities, where a rule has none of its own.
        write: A row is taken that all of these take.
        evict: What goes where nothing can be compressed.
        compress: What is tried first; None for nothing.
    """

    inputs = INPUTS

    def __init__(
        self,
        streams: int,
        capacity: int,
        *,
        scale: float,
        write: tuple[WriteRule, ...],
        evict: EvictRule,
        compress: CompressRule | None,
    ) -> None:
        super().__init__()
        self.ledger = Ledger(streams, capacity)
        self.scale = scale
        self.write, self.evict, self.compress = write, evict, compress
        self.counts_use = evict.counts_use or (compress is not None and compress.counts_use)

    def slots(self, rows: BankView, stored: BankView, total: Int64[Tensor, ""]) -> Int64[Tensor, " batch"]:  # noqa: ARG002
        """A slot of the stream of each row; -1 for one that is not taken, does not stay or is merged into another.

        A row that is older than its stream is refused.
        """
        streams = rows.fields["stream"]
        arrivals = Arrivals(rows.embeddings, *(rows.fields[name] for name in INPUTS[1:]), scale=self.scale)
        past = self.ledger.past(streams, stored.embeddings)
        # Everything is decided before anything changes: the past may be the columns themselves.
        fresh = rows.valid & (arrivals.time >= past.now)
        taken = fresh & self._takes(arrivals, past)
        free = ~past.valid
        full = taken & ~free.any(dim=1)
        rewrite = self._rewrite(arrivals, past, full)
        if rewrite is not None:
            free = free | (rewrite.freed & rewrite.applies[:, None])
            full = full & ~rewrite.applies
        standing = taken if rewrite is None else taken & ~rewrite.applies
        gone = self.evict.gives_way(arrivals, past, full) & standing[:, None]
        free = free | gone
        kept = taken & free.any(dim=1)
        if rewrite is not None:
            kept = kept & ~(rewrite.absorbed & rewrite.applies)
            self._write_anew(streams, rewrite, stored)
        now = torch.where(fresh, arrivals.time, past.now)
        place = free.to(torch.int8).argmax(dim=1)
        self.ledger.free(streams, gone)
        self.ledger.enter(streams, place, kept, taken, arrivals)
        self.ledger.offer(streams, now, fresh)
        slots = torch.where(kept, streams * self.ledger.capacity + place, NOT_KEPT)
        return torch.where(fresh, slots, REFUSED)

    def _takes(self, arrivals: Arrivals, past: Past) -> Bool[Tensor, " batch"]:
        """What all write rules take, and what is pinned."""
        taken = torch.ones_like(arrivals.pin)
        for rule in self.write:
            taken = taken & rule.takes(arrivals, past)
        return taken | arrivals.pin

    def _rewrite(self, arrivals: Arrivals, past: Past, full: Bool[Tensor, " batch"]) -> Rewrite | None:
        """What compression makes of the full streams; None where there is nothing to do."""
        readable = full.is_cpu and not torch.compiler.is_compiling()
        if self.compress is None or (readable and not full.any()):
            return None
        rewrite = self.compress.compress(arrivals, past)
        return replace(rewrite, applies=rewrite.applies & full)

    def _write_anew(self, streams: Int64[Tensor, " batch"], rewrite: Rewrite, stored: BankView) -> None:
        """Put rewritten rows in their places."""
        slots = (streams[:, None] * self.ledger.capacity + rewrite.place).flatten()
        rows = rewrite.embeddings.to(stored.embeddings.dtype)
        rows = torch.where(rewrite.applies[:, None, None], rows, stored.embeddings[slots].view_as(rows))
        stored.embeddings.index_copy_(0, slots, rows.flatten(0, 1))
        self.ledger.rewrite(streams, rewrite)


class StreamBank(Bank, registered=False):
    """``capacity`` rows for each of ``streams`` streams; see `torchbank.video.TemporalMemory`.

    Args:
        streams: How many streams there are.
        capacity: Rows of each.
        dim: Length of an embedding.
        rule: What stays.
        storage: ``fields``, ``metric``, ``dtype`` and ``device``, as for every bank.
    """

    def __init__(self, streams: int, capacity: int, dim: int, *, rule: StreamRule, **storage: Any) -> None:
        super().__init__(streams * capacity, dim, replacement=rule, **storage)

    @property
    def rule(self) -> StreamRule:
        """The rule, which keeps the ledger."""
        return cast(StreamRule, self.replacement)

    def options(self) -> dict[str, Any]:
        """The memory writes its own header."""
        return {}

    def take(self, rows: Tensor, inputs: Mapping[str, Tensor]) -> Int64[Tensor, " batch"]:
        """Offer one row to each of some streams; see `TemporalMemory.write`.

        Args:
            rows: ``(batch, dim)``.
            inputs: The fields, and `INPUTS`.
        """
        return self._push(rows, inputs, step=None, check=False)

    def erase(self, streams: Int64[Tensor, " batch"]) -> None:
        """Put zeros in the place of all rows of some streams and of all that is known of them."""
        ledger = self.rule.ledger
        for column in (self.embeddings, *self.fields.values(), self.steps, self.generations):
            column.view(ledger.streams, -1).index_fill_(0, streams, 0)
        ledger.reset(streams)


def rounds(streams: Int64[Tensor, " batch"]) -> list[Int64[Tensor, " part"]]:
    """Cut a batch into parts that hold no stream twice, each in order of the streams; reads the streams.

    Rows of one stream come in the order in which they were given.
    """
    ordered, rows = torch.sort(streams, stable=True)
    number = torch.arange(len(rows)) - torch.searchsorted(ordered, ordered)
    turns = int(number.max()) + 1 if len(rows) else 0
    return [rows[number == turn] for turn in range(turns)]
