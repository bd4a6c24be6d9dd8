"""The replacement rule of one rank's part of a bank."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torchbank.banks import BankView, Replacement
from torchbank.errors import BankStateError


class ShardRule(Replacement):
    """Of the slots that another rule gives, those of this rank: slot s is row ``s // ranks`` of rank ``s % ranks``.

    It sees the batches of all ranks, so that all come to the same slots; each keeps its own.

    Args:
        rule: The rule of the whole bank, which does not look at its rows.
        capacity: Of the whole bank.
        rank: This one.
        ranks: How many there are.
    """

    looks_at_rows = False

    def __init__(self, rule: Replacement, capacity: int, rank: int, ranks: int) -> None:
        super().__init__()
        self.rule = rule
        self.capacity, self.rank, self.ranks = capacity, rank, ranks
        self.inputs, self.merges_duplicates = rule.inputs, rule.merges_duplicates

    def slots(self, rows: BankView, stored: BankView, total: Int64[Tensor, ""]) -> Int64[Tensor, " batch"]:
        """This rank's slots; -1 for the rows of the others."""
        slots = self.rule.slots(rows, self._whole(stored), total)
        own = (slots >= 0) & (slots % self.ranks == self.rank)
        return torch.where(own, slots // self.ranks, slots.clamp_max(-1))

    def merge(self, rows: BankView, slots: Int64[Tensor, " batch"], stored: BankView) -> Float[Tensor, "batch dim"]:
        """As the whole bank would: all rows of a slot meet on its rank."""
        return self.rule.merge(rows, slots, stored)

    def filled(self, total: Int64[Tensor, ""], capacity: int) -> Int64[Tensor, ""] | None:  # noqa: ARG002
        """The rows of this rank."""
        filled = self.rule.filled(total, self.capacity)
        return None if filled is None else (filled + self.ranks - 1 - self.rank) // self.ranks

    def resize(
        self,
        rows: BankView,  # noqa: ARG002
        slots: Int64[Tensor, " rows"],
        empty: BankView,
        total: Int64[Tensor, ""],  # noqa: ARG002
    ) -> Int64[Tensor, " rows"]:
        """Refused: one rank's rows do not tell where those of the others go.

        Raises:
            BankStateError: Always.
        """
        msg = (
            f"{len(slots)} rows of one rank do not fit into {len(empty.steps)} slots of another bank or number of "
            "ranks; save the whole bank (bank.save, or torch.distributed.checkpoint with "
            "torchbank.sharding.checkpoint_state) and load that"
        )
        raise BankStateError(msg)

    def _whole(self, stored: BankView) -> BankView:
        """Something of the whole bank's shape, which takes no memory and tells nothing but its capacity."""

        def spread(column: Tensor) -> Tensor:
            return column.new_zeros(()).expand(self.capacity, *column.shape[1:])

        fields = {name: spread(column) for name, column in stored.fields.items()}
        return BankView(spread(stored.embeddings), fields, spread(stored.steps), spread(stored.valid))
