"""Which samples of an identity stay.

Axes: seats (identities that there is room for), kept (samples of one identity), batch (rows of one push). A seat owns
``kept`` slots in a row. A push holds at most one row for each seat.
"""

from abc import abstractmethod

import torch
from jaxtyping import Int64
from torch import Tensor

from torchbank.banks import BankView, Replacement


class SampleRule(Replacement):
    """A sample takes an empty slot of its seat while there is one; then the rule decides."""

    inputs = ("seat",)
    taken: Tensor

    def __init__(self, seats: int, kept: int) -> None:
        super().__init__()
        self.kept = kept
        # Samples that each seat was ever given, since it was last emptied.
        self.register_buffer("taken", torch.zeros(seats, dtype=torch.int64))

    def slots(self, rows: BankView, stored: BankView, total: Int64[Tensor, ""]) -> Int64[Tensor, " batch"]:  # noqa: ARG002
        """The first free slot of the seat, or the one that the rule gives up."""
        seat = rows.fields["seat"]
        number = self.taken[seat]
        self.taken.index_add_(0, seat, rows.valid.to(torch.int64))
        slots = seat[:, None] * self.kept + torch.arange(self.kept, device=seat.device)
        place = torch.where(number < self.kept, number, self.given_up(rows, slots, number, stored))
        return seat * self.kept + place

    @abstractmethod
    def given_up(
        self, rows: BankView, slots: Int64[Tensor, "batch kept"], number: Int64[Tensor, " batch"], stored: BankView
    ) -> Int64[Tensor, " batch"]:
        """Which of a seat's samples gives way, counted from 0, where all of its slots are filled.

        Args:
            rows: The new samples.
            slots: The slots of the seat of each.
            number: How many samples the seat was given before.
            stored: Everything in the bank.
        """


class Newest(SampleRule):
    """The last ``kept`` samples."""

    def given_up(
        self,
        rows: BankView,  # noqa: ARG002
        slots: Int64[Tensor, "batch kept"],  # noqa: ARG002
        number: Int64[Tensor, " batch"],
        stored: BankView,  # noqa: ARG002
    ) -> Int64[Tensor, " batch"]:
        """The oldest."""
        return number % self.kept


class Uniform(SampleRule):
    """Samples spread over the lifetime of the identity: its first, its newest, and even steps between them.

    The sample gives way whose two neighbours in time are closest to each other, so that the widest gap that it
    leaves is the smallest one possible.
    """

    def given_up(
        self,
        rows: BankView,
        slots: Int64[Tensor, "batch kept"],
        number: Int64[Tensor, " batch"],  # noqa: ARG002
        stored: BankView,
    ) -> Int64[Tensor, " batch"]:
        """Any but the first; among equals the oldest."""
        steps, order = stored.steps[slots].sort(dim=1, stable=True)
        after = torch.cat([steps[:, 2:], rows.steps[:, None]], dim=1)
        # With one slot there is nothing between the first and the newest: the newest stays.
        between = after - steps[:, :-1] if self.kept > 1 else torch.zeros_like(steps)
        choice = between.argmin(dim=1, keepdim=True) + (self.kept > 1)
        return order.gather(1, choice).squeeze(1)


class Diverse(SampleRule):
    """Samples that differ: of the two that are most alike, the new one counted, the older gives way."""

    def given_up(
        self,
        rows: BankView,
        slots: Int64[Tensor, "batch kept"],
        number: Int64[Tensor, " batch"],  # noqa: ARG002
        stored: BankView,
    ) -> Int64[Tensor, " batch"]:
        """One of the closest pair."""
        order = stored.steps[slots].argsort(dim=1, stable=True)
        oldest_first = stored.embeddings[slots.gather(1, order)].float()
        samples = torch.cat([oldest_first, rows.embeddings[:, None].float()], dim=1)
        alike = samples @ samples.mT
        # Row i against the later ones only: the row of the closest pair is then its older member.
        later = torch.ones(self.kept + 1, self.kept + 1, dtype=torch.bool, device=alike.device).triu(1)
        closest = alike.masked_fill(~later, -torch.inf).amax(dim=2)[:, : self.kept]
        return order.gather(1, closest.argmax(dim=1, keepdim=True)).squeeze(1)


class Mean(SampleRule):
    """One prototype: the running mean of all samples, so that its score is the mean of their scores."""

    def given_up(
        self,
        rows: BankView,  # noqa: ARG002
        slots: Int64[Tensor, "batch kept"],  # noqa: ARG002
        number: Int64[Tensor, " batch"],
        stored: BankView,  # noqa: ARG002
    ) -> Int64[Tensor, " batch"]:
        """The prototype itself."""
        return torch.zeros_like(number)

    def merge(self, rows: BankView, slots: Int64[Tensor, " batch"], stored: BankView) -> Tensor:
        """The mean over one more sample."""
        count = self.taken[rows.fields["seat"]].clamp_min(1)[:, None]
        before = torch.where(count > 1, stored.embeddings[slots.clamp_min(0)].float(), 0)
        return torch.lerp(before, rows.embeddings.float(), 1 / count).to(rows.embeddings.dtype)


RULES: dict[str, type[SampleRule]] = {"uniform": Uniform, "newest": Newest, "diverse": Diverse, "mean": Mean}
