"""A part of the rows on each rank: slot s is row ``s // ranks`` of rank ``s % ranks``."""

import copy
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Int64
from torch import Tensor, distributed

from torchbank.banks import Bank, BankView, Replacement, Subset, Table, check_below, check_int64
from torchbank.errors import BankStateError, BankValueError
from torchbank.io import describe
from torchbank.reads import copy_rows
from torchbank.sharding._agreement import check_agreement
from torchbank.sharding._collectives import Ranks
from torchbank.sharding._merged_reads import MergedReads
from torchbank.sharding._rank_tag import check_tag, tag
from torchbank.sharding._shard_rule import ShardRule
from torchbank.sharding._shared import SharedBank, shared_class
from torchbank.sharding._whole_file import save_whole

AnyBank = TypeVar("AnyBank", bound=Bank)


class ShardedBank(SharedBank):
    """What `shard` makes of a bank; besides, it is of the class of the bank.

    Slots, ``capacity``, ``len`` and the counters are those of the whole bank. `view`, `age`, ``nbytes`` and the columns
    are of this rank's rows. All methods but these are called by all ranks at the same time: each with its own queries,
    batch or slots, but `subset`, `blocks` and `sample` with the same.
    """

    _options: dict[str, Any]

    def options(self) -> dict[str, Any]:
        """Those of the whole bank."""
        return self._options

    def common_state(self) -> dict[str, Tensor]:
        """The counters, and what the rule remembers."""
        return {name: column for name, column in self.state_dict().items() if column.ndim == 0}

    def own_slots(self) -> Int64[Tensor, " rows"]:
        """The slot in the whole bank of each row of `view`; sends nothing."""
        return self._slots_of(torch.arange(len(self.view().steps), device=self.device))

    def count(self) -> Int64[Tensor, ""]:
        """The rows of all ranks; known without asking where slots fill from 0."""
        filled = self._rule.filled(self.total, self.capacity)
        return self.ranks.total(super().count()) if filled is None else filled

    def ordered(self) -> BankView:
        """A copy of the rows of all ranks, oldest first: every rank then holds the whole bank."""
        whole = self._whole()
        return whole.rows(self._rule.order(whole, self.total))

    def gather(self, slots: Int64[Tensor, "..."]) -> BankView:
        """A copy of the rows at this rank's ``slots``, wherever they lie; as many slots on every rank.

        See `Bank.gather`. Sends a rank ``(ranks - 1)`` times the bytes of the slots and of the rows.
        """
        check_int64("slots", slots)
        check_below("slots", slots, self.capacity)
        (everyone,), sizes = self.ranks.gather(slots.to(self.device).flatten())
        found = super().gather(self._local(everyone))
        answers = self.ranks.answer(sizes, found.embeddings, *found.fields.values(), found.steps, found.valid)
        valid = answers[-1]
        # At most one rank has the row, and what the others answer is 0.
        owner = valid.to(torch.uint8).argmax(dim=0)
        place = torch.arange(slots.numel(), device=owner.device)
        embeddings, *fields, steps, valid = (part[owner, place].unflatten(0, slots.shape) for part in answers)
        return BankView(embeddings, dict(zip(self.schema.fields, fields, strict=True)), steps, valid)

    def subset(self, slots: Int64[Tensor, " rows"]) -> Subset:
        """The rows at ``slots``, which are the same on all ranks, to be read by all ranks together; see `Bank.subset`.

        Each rank copies those of them that it has.
        """
        if slots.ndim != 1:
            msg = f"slots has shape {tuple(slots.shape)}; expected one axis, (rows,)"
            raise BankValueError(msg)
        slots = slots.to(self.device)
        part = (slots % self.ranks.size == self.ranks.rank).nonzero().squeeze(1)
        rows = self._copied(slots[part] // self.ranks.size)
        return Subset(rows, self.metric, self.clock, masked=True, part=part, reads=MergedReads(self.ranks, part))

    def update(
        self, slots: Tensor, generations: Tensor, embeddings: Tensor, *, step: int | Tensor | None = None
    ) -> Int64[Tensor, ""]:
        """See `SharedBank.update`; each rank writes those of the rows that it has."""
        slots, generations, embeddings = self._updates_of_all(slots, generations, embeddings)
        local = self._local(slots)
        # A slot that does not exist is stale on the rank that would have it.
        elsewhere = (slots % self.ranks.size != self.ranks.rank).sum()
        stale = Bank.update(self, local, generations, embeddings, step=step) - elsewhere
        return self.ranks.total(stale)

    def step_range(self) -> list[int] | None:
        """The oldest and the newest stamp of a row of any rank."""
        own = super().step_range()
        ends = torch.tensor([own or [0, 0]], device=self.device)
        (everyone, there), _ = self.ranks.gather(ends, torch.tensor([own is not None], device=self.device))
        ends = everyone[there]
        return [int(ends.min()), int(ends.max())] if len(ends) else None

    def save(self, path: str | Path, *, encoder: str | None = None, data: str | None = None) -> None:
        """Write the bank of all ranks to one file that `torchbank.load` reads as a bank of one process.

        The first rank writes it, and holds 64 MB of each rank's rows at a time.

        Args:
            path: The file, which is replaced as a whole or not at all.
            encoder: A fingerprint of what made the embeddings, kept in the file.
            data: A fingerprint of what was embedded, kept in the file.

        Raises:
            BankFileNotFoundError: The folder does not exist.
        """
        check_tag(self)
        save_whole(self, path, describe(self, encoder, data))

    # What the methods of a bank are made of

    @property
    def _rule(self) -> Replacement:
        """That of the whole bank."""
        rule: Any = self.replacement
        return rule.rule

    def _table(self) -> Table:
        part = slice(self.ranks.rank, None, self.ranks.size)
        return super()._table()._replace(part=part, reads=MergedReads(self.ranks, part))

    def _own_slots(self, slots: Int64[Tensor, " everyone"], sizes: list[int]) -> Int64[Tensor, " batch"]:
        whole = torch.where(slots >= 0, slots * self.ranks.size + self.ranks.rank, slots)
        return self.ranks.answer(sizes, whole)[0].amax(dim=0)

    def _summed_age(self, step: int | Tensor | None) -> Int64[Tensor, ""]:
        return self.ranks.total(super()._summed_age(step))

    def _slots_of(self, places: Int64[Tensor, " rows"]) -> Int64[Tensor, " rows"]:
        return places * self.ranks.size + self.ranks.rank

    def _written_slots(self) -> Int64[Tensor, " rows"]:
        """The slots of all ranks that hold a row, ascending; a byte a slot is sent where they may lie anywhere."""
        filled = self._rule.filled(self.total, self.capacity)
        if filled is not None:
            return torch.arange(int(filled), device=self.device)
        (written,) = self._interleaved(self._placement.written(self.generations).to(self.device))
        return written.nonzero().squeeze(1)

    def _shuffled_slots(self, generator: torch.Generator | None) -> Int64[Tensor, " rows"]:
        # The generator of the process is another one on each rank.
        return super()._shuffled_slots(generator or torch.Generator().manual_seed(int(self.pushes)))

    def _local(self, slots: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
        """Slots of the whole bank among this rank's rows; -1 for those of other ranks."""
        own = (slots >= 0) & (slots < self.capacity) & (slots % self.ranks.size == self.ranks.rank)
        return torch.where(own, slots // self.ranks.size, -1)

    def _whole(self) -> BankView:
        """The slots of all ranks."""
        rows = self._slots_view()
        names = list(rows.fields)
        columns = (rows.embeddings, *rows.fields.values(), rows.steps, rows.valid)
        embeddings, *fields, steps, valid = self._interleaved(*columns)
        return BankView(embeddings, dict(zip(names, fields, strict=True)), steps, valid)

    def _interleaved(self, *columns: Tensor) -> list[Tensor]:
        """Columns of the rows of all ranks, by slot."""
        ranks = self.ranks.size
        longest = -(-self.capacity // ranks)
        padded = [torch.cat([column, column.new_zeros(longest - len(column), *column.shape[1:])]) for column in columns]
        gathered = self.ranks.gather(*padded).columns
        return [
            column.unflatten(0, (ranks, longest)).transpose(0, 1).flatten(0, 1)[: self.capacity] for column in gathered
        ]


def shard(
    bank: AnyBank,
    group: distributed.ProcessGroup | None = None,
    *,
    uneven: bool = False,
    device: torch.device | str | None = None,
    storage: str | Path = "module",
) -> AnyBank:
    """Let each rank of a group hold a part of a bank's rows: slot s lies on rank ``s % ranks``.

    All methods are those of the bank, with slots of the whole bank, and give what one process would: `ShardedBank`
    tells which of them speak of this rank's rows. A push takes the batches of all ranks, in rank order. A read sends
    the queries to all ranks and merges what they find; its gradient is that of this rank's own queries and is at hand
    after the forward pass. Nothing that is sent during a step grows with the capacity.

    The means over a rank's batch, averaged by DDP over ranks of equal batches, are those of one process with the whole
    batch: so are the gradients of a loss that is a mean over queries.

    Args:
        bank: The same on all ranks, empty or not. One on ``device="meta"`` takes no memory, and describes an empty
            bank that no single rank could hold.
        group: The ranks; None is all of them, or this process alone where there is no process group.
        uneven: Ranks may bring batches of different sizes, an empty one too. Waits for the device.
        device: Where this rank's rows go; None is where the bank is, or the default device of torch for one on meta.
        storage: Where this rank's rows lie, as for `Bank`; a path is one of its own on each rank.

    Returns:
        A bank of the same class; ``bank`` itself stays as it is, and may be dropped.

    Raises:
        BankStateError: The banks differ, or are shared already; the message names the first rank that differs. Or the
            rule looks at the rows that the bank holds.
        BankValueError: This process is not in the group, or there are more ranks than slots.

    Example:
        >>> import torch, torchbank as tb
        >>> bank = tb.shard(tb.MemoryBank(1_000, 2))  # alone here; under torchrun, with the other ranks
        >>> _ = bank.push(torch.randn(300, 2))
        >>> len(bank), bank.nearest(torch.randn(4, 2), k=3).slots.shape
        (300, torch.Size([4, 3]))
    """
    ranks = Ranks(group, uneven=uneven)
    described = bank.total.is_meta
    where = torch.empty(0, device=bank.device if device is None and not described else device).device
    check_agreement(bank, ranks, where)
    _check_rule(bank, ranks)
    sharded = _empty_part(bank, ranks, where, storage)
    if not described:
        _take_part(sharded, bank)
    tag(sharded, ranks)
    return sharded


def _check_rule(bank: Bank, ranks: Ranks) -> None:
    rule = bank.replacement
    if rule.looks_at_rows:
        msg = (
            f"{type(rule).__name__} may look at the rows that the bank holds, of which no rank has all; set "
            "looks_at_rows = False in its class if its slots depend on the batch and the capacity alone, or use "
            "torchbank.replicate"
        )
        raise BankStateError(msg)
    if bank.capacity < ranks.size:
        msg = f"{ranks.size} ranks cannot share {bank.capacity} slots; expected at least one a rank"
        raise BankValueError(msg)


def _empty_part(bank: AnyBank, ranks: Ranks, device: torch.device, storage: str | Path) -> AnyBank:
    """A bank for this rank's rows, holding nothing."""
    schema = bank.schema
    kind = shared_class(ShardedBank, type(bank))
    part: Any = object.__new__(kind)
    Bank.__init__(
        part,
        -(-(schema.capacity - ranks.rank) // ranks.size),
        schema.dim,
        replacement=ShardRule(copy.deepcopy(bank.replacement), schema.capacity, ranks.rank, ranks.size),
        fields={name: (field.dtype, field.shape) for name, field in schema.fields.items()},
        metric=schema.metric,
        dtype=schema.dtype,
        device=device,
        storage=storage,
    )
    part.schema, part.capacity, part.ranks, part._options = schema, schema.capacity, ranks, bank.options()
    # The options of its class, such as a momentum.
    vars(part).update({name: value for name, value in vars(bank).items() if name not in vars(part)})
    return part


def _take_part(part: Any, bank: Bank) -> None:
    """Copy this rank's rows, and the counters."""
    own = slice(part.ranks.rank, None, part.ranks.size)
    given = dict(bank.named_buffers())
    for name, column in part.named_buffers(recurse=False):
        copy_rows(column, given[name][own]) if column.ndim else column.copy_(given[name])
