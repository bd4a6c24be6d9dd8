"""What is in a bank: how many rows, all of them, some of them, and how old they are."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torchbank.banks._doors import check_below, check_int64, check_size
from torchbank.banks._placement import Placement
from torchbank.banks._reading import Table
from torchbank.banks._replacement import Replacement
from torchbank.banks._subset import Subset
from torchbank.banks._view import BankView, StaleRows
from torchbank.errors import BankValueError
from torchbank.reads import passing


class Contents(ABC):
    """The rows of a bank as they are: the part of `Bank` that neither writes nor compares."""

    capacity: int
    replacement: Replacement
    embeddings: Tensor
    steps: Tensor
    generations: Tensor
    total: Tensor
    clock: Tensor
    metric: str
    _placement: Placement

    @abstractmethod
    def _table(self) -> Table:
        """The rows as they are read."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the bank lies."""

    @property
    @abstractmethod
    def fields(self) -> dict[str, Tensor]:
        """The field of each slot by name."""

    def __len__(self) -> int:
        """The rows there are. Waits for the device."""
        return int(self.count())

    def count(self) -> Int64[Tensor, ""]:
        """``len(bank)`` as a 0-d tensor; does not wait for the device."""
        filled = self.replacement.filled(self.total, self.capacity)
        return self._placement.written(self.generations).sum().to(self.device) if filled is None else filled

    @property
    def is_full(self) -> bool:
        """Whether every slot holds a row. Waits for the device."""
        return len(self) == self.capacity

    @property
    def total_pushed(self) -> int:
        """The rows ever taken. Waits for the device."""
        return int(self.total)

    def view(self) -> BankView:
        """The rows in slot order, not copied and where they lie. Waits for the device.

        Returns:
            The rows there are, where slots fill from 0 (ring, reservoir); else every slot, and which are valid.
        """
        slots = self._slots_view()
        filled = self.replacement.filled(self.total, self.capacity)
        return slots if filled is None else slots.rows(slice(0, int(filled)))

    def ordered(self) -> BankView:
        """A copy of the rows where they lie, oldest first: exact for a ring, by stamp and slot for the others."""
        slots = self._slots_view()
        return slots.rows(self.replacement.order(slots, self.total))

    def gather(self, slots: Int64[Tensor, "..."]) -> BankView:
        """A copy of the rows at ``slots``, of any shape, such as those of `nearest`.

        Args:
            slots: int64; a negative slot gives zeros and ``valid`` False.

        Raises:
            BankTypeError: ``slots`` is not int64.
            BankValueError: On the CPU, a slot is ``capacity`` or more (elsewhere it counts as not valid).
        """
        return self._copied(slots).blanked()

    def subset(self, slots: Int64[Tensor, " rows"]) -> Subset:
        """A copy of the rows at ``slots``, on the bank's device, with the reads of the bank.

        The copy is made once and read as often as you like: a random block of the memory, say, for all views of a
        batch. Rows come in the order of ``slots``, which may name one twice; a ``bias=`` has one value for each.

        Args:
            slots: ``(rows,)`` int64, such as a row of `blocks`.

        Raises:
            BankTypeError: ``slots`` is not int64.
            BankValueError: It has another number of axes or, on the CPU, a slot holds no row (elsewhere it is
                never read).

        Example:
            >>> import torch, torchbank as tb
            >>> bank = tb.MemoryBank(100, 2)
            >>> _ = bank.push(torch.randn(100, 2))
            >>> queries = torch.randn(4, 2)
            >>> parts = [bank.subset(slots).attend(queries, scale=5.0).lse for slots in bank.blocks(50)]
            >>> torch.allclose(torch.logaddexp(*parts), bank.attend(queries, scale=5.0).lse)
            True
        """
        if slots.ndim != 1:
            msg = f"slots has shape {tuple(slots.shape)}; expected one axis, (rows,)"
            raise BankValueError(msg)
        slots = slots.to(self.device)
        rows = self._copied(slots)
        masked = not slots.is_cpu or torch.compiler.is_compiling()
        if not masked and not rows.valid.all():
            empty = int(slots[~rows.valid][0])
            msg = f"slots holds {empty}, where there is no row; expected slots that were written, as from bank.blocks"
            raise BankValueError(msg)
        return Subset(rows, self.metric, self.clock, masked=masked)

    def transformed(self, transform: Callable[[BankView], Tensor]) -> Subset:
        """A copy of all rows, on the bank's device, with other embeddings and the reads of the bank.

        For corrections of rows that have grown old (`torchbank.drift.MomentMatching`, `torchbank.drift.LocalDrift`).
        The bank itself stays as it is. Slots, fields, ages and a ``bias=`` mean what they mean for the bank. On the
        CPU only the rows there are are copied, elsewhere every slot, so that nothing waits for the device.

        Args:
            transform: Gives embeddings ``(rows, dim)`` for the rows it is shown; where ``valid`` is False, whatever
                it likes. Under cosine they are normalised afterwards.

        Raises:
            BankValueError: The transform gave another shape.

        Example:
            >>> import torch, torchbank as tb
            >>> bank = tb.MemoryBank(4, 2, metric="dot")
            >>> _ = bank.push(torch.eye(2))
            >>> bank.transformed(lambda rows: 3 * rows.embeddings).nearest(torch.eye(2), k=1).scores
            tensor([[3.],
                    [3.]])
        """
        on_host = self.generations.is_cpu and self.device.type == "cpu" and not torch.compiler.is_compiling()
        rows = self.view() if on_host else self._slots_view()
        columns = {name: column.to(self.device) for name, column in rows.fields.items()}
        rows = BankView(
            rows.embeddings.to(self.device), columns, rows.steps.to(self.device), rows.valid.to(self.device)
        )
        embeddings = transform(rows)
        if embeddings.shape != rows.embeddings.shape:
            msg = (
                f"the transform gave embeddings of shape {tuple(embeddings.shape)}; expected "
                f"{tuple(rows.embeddings.shape)}, one for each row"
            )
            raise BankValueError(msg)
        if self.metric == "cosine":
            embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        masked = not on_host or not bool(rows.valid.all())
        table = self._table()
        rows = rows._replace(embeddings=embeddings)
        return Subset(rows, self.metric, self.clock, masked=masked, part=table.part, reads=table.reads)

    def age(self, step: int | Tensor | None = None) -> Int64[Tensor, " rows"]:
        """How many steps ago each row of `view` was written.

        Args:
            step: Now; None is the latest stamp, so that the newest rows have age 0.

        Returns:
            One age for each row of `view`; without meaning where that is not valid.
        """
        return (self.clock if step is None else step) - self.view().steps.to(self.device)

    def mean_age(self, step: int | Tensor | None = None) -> Float[Tensor, ""]:
        """The mean age of the rows, 0-d; 0 without any. Does not wait for the device.

        Args:
            step: Now; None is the latest stamp.
        """
        return self._summed_age(step) / self.count().clamp_min(1)

    def step_range(self) -> list[int] | None:
        """The oldest and the newest stamp of a row; None without any. Waits for the device."""
        ends = []
        for run in passing(self.steps):
            steps = self.steps[run][self.generations[run] > 0]
            if len(steps):
                ends += [int(steps.min()), int(steps.max())]
        return [min(ends), max(ends)] if ends else None

    def _summed_age(self, step: int | Tensor | None) -> Int64[Tensor, ""]:
        written = self._placement.written(self.generations)
        ages = (self.clock if step is None else step) - self.steps.to(self.device)
        return ages.masked_fill(~written.to(self.device), 0).sum()

    def stalest(self, batch_size: int) -> Iterator[StaleRows]:
        """The rows that this process looks after, the oldest stamps first, so many at a time. Waits for the device.

        Those are all of a bank of its own, and a share of one that several ranks have together. Each part is read when
        it is asked for; nothing is sent.

        Args:
            batch_size: Rows of a part; the last may have fewer.
        """
        check_size("batch_size", batch_size)
        view = self.view()
        places = view.valid.nonzero().squeeze(1)
        places = places[view.steps[places].argsort(stable=True)].to(self.device)
        for part in self._share(places).split(batch_size):
            generations = self.generations[part.to(self.generations.device)].to(part.device)
            yield StaleRows(self._slots_of(part), generations, self._copied(part))

    def _share(self, places: Int64[Tensor, " rows"]) -> Int64[Tensor, " share"]:
        """Of rows of `view`, those that this process looks after."""
        return places

    def _slots_of(self, places: Int64[Tensor, " rows"]) -> Int64[Tensor, " rows"]:
        """The slots of rows of `view`."""
        return places

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Int64[Tensor, " n"]:
        """Slots of ``n`` different rows, each row as likely as any other. Waits for the device.

        Raises:
            BankValueError: There are fewer than ``n`` rows.
        """
        if not 0 <= n <= len(self):
            msg = f"cannot sample {n} different rows of {len(self)}; ask for at most len(bank)"
            raise BankValueError(msg)
        return self._shuffled_slots(generator)[:n]

    def blocks(self, block_size: int, *, generator: torch.Generator | None = None) -> Int64[Tensor, "blocks size"]:
        """Cut the rows into random blocks of equal size; the remainder is left out. Waits for the device.

        Returns:
            ``(len(bank) // block_size, block_size)`` int64 slots, no slot twice.
        """
        check_size("block_size", block_size)
        slots = self._shuffled_slots(generator)
        blocks = slots.shape[0] // block_size
        return slots[: blocks * block_size].view(blocks, block_size)

    def _shuffled_slots(self, generator: torch.Generator | None) -> Int64[Tensor, " rows"]:
        slots = self._written_slots()
        where = slots.device if generator is None else generator.device
        return slots[torch.randperm(slots.shape[0], generator=generator, device=where).to(slots.device)]

    def _written_slots(self) -> Int64[Tensor, " rows"]:
        """The slots that hold a row, ascending."""
        return self._placement.written(self.generations).nonzero().squeeze(1).to(self.device)

    def _copied(self, slots: Int64[Tensor, "..."]) -> BankView:
        """A copy of the rows at ``slots``; of any row where a slot is not valid."""
        check_int64("slots", slots)
        check_below("slots", slots, self.capacity)
        held, at = slots.clamp(0, self.capacity - 1), self._placement.at
        valid = (slots == held) & (at(self.generations, held, self.device) > 0)
        fields = {name: at(column, held, self.device) for name, column in self.fields.items()}
        rows, steps = (at(column, held, self.device) for column in (self.embeddings, self.steps))
        return BankView(rows, fields, steps, valid)

    def _slots_view(self) -> BankView:
        """Every slot, holding a row or not."""
        return BankView(self.embeddings, self.fields, self.steps, self._placement.written(self.generations))
