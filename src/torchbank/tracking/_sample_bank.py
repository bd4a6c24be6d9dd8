"""The bank under a gallery: some samples of each of many identities.

Axes: seats (identities that there is room for), kept (samples of one identity), batch (samples of one call). A seat
owns ``kept`` slots in a row.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from torchbank.banks import Bank, BankView
from torchbank.errors import check_choice
from torchbank.tracking._identities import NOBODY
from torchbank.tracking._sample_rules import RULES

FIELDS = {
    "identity": torch.int64,
    "label": torch.int64,
    "score": torch.float32,
    "frame": torch.int64,
    "time": torch.float64,
    "source": torch.int64,
}


class SampleBank(Bank):
    """The samples of a gallery: ``kept`` slots for each of ``seats`` identities, one under ``rule="mean"``.

    Args:
        seats: How many identities there is room for.
        kept: Samples of each.
        dim: Length of an embedding.
        rule: A key of `RULES`.
        dtype: Of the rows.
        device: Where the bank lies.
    """

    def __init__(
        self, seats: int, kept: int, dim: int, *, rule: str, dtype: torch.dtype, device: torch.device | str | None
    ) -> None:
        check_choice("rule", rule, *RULES)
        self.kept = 1 if rule == "mean" else kept
        self.rule = rule
        replacement = RULES[rule](seats, self.kept)
        super().__init__(
            seats * self.kept, dim, fields=FIELDS, metric="cosine", dtype=dtype, device=device, replacement=replacement
        )

    def options(self) -> dict[str, Any]:
        """The gallery writes its own header."""
        return {"rule": self.rule, "kept": self.kept}

    def slots_of(self, seat: int) -> Int64[Tensor, " samples"]:
        """The slots of a seat that hold a sample, oldest first."""
        own = slice(seat * self.kept, (seat + 1) * self.kept)
        filled = self.generations[own].nonzero().squeeze(1)
        order = self.steps[own][filled].argsort(stable=True)
        return filled[order] + seat * self.kept

    def take(self, rows: np.ndarray, seats: np.ndarray, fields: Mapping[str, np.ndarray | float], *, step: int) -> None:
        """Give each of some seats, none of them twice, one sample.

        Args:
            rows: ``(batch, dim)`` float32.
            seats: ``(batch,)`` int64.
            fields: Each of `FIELDS`, ``(batch,)`` or a number for all.
            step: Their stamp.
        """
        columns = {
            name: torch.tensor(np.broadcast_to(fields[name], len(rows)), dtype=dtype, device=self.device)
            for name, dtype in FIELDS.items()
        }
        columns["seat"] = torch.from_numpy(seats).to(self.device)
        self._push(torch.from_numpy(rows).to(self.device), columns, step=step, check=False)

    def best(
        self, rows: np.ndarray, k: int, labels: np.ndarray | None, eligible: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """So many of the most similar samples that k identities are among them.

        Args:
            rows: ``(batch, dim)`` float32.
            k: How many identities.
            labels: ``(batch,)``; only samples of the same label.
            eligible: ``(seats,)`` bool; only samples of these seats.

        Returns:
            ``(batch, samples)`` their identities, `NOBODY` for none, and similarities, best first.
        """
        # Among so many rows there are k identities, however many samples the first ones have.
        many = min((k - 1) * self.kept + 1, self.capacity)
        bias = None
        if eligible is not None:
            open_seats = torch.from_numpy(np.where(eligible, np.float32(0), np.float32(-np.inf)))
            bias = open_seats.repeat_interleave(self.kept).to(self.device)
        include = None if labels is None else {"label": torch.from_numpy(labels).to(self.device)}
        found = self.nearest(torch.from_numpy(rows).to(self.device), many, include=include, bias=bias)
        owners = self.fields["identity"][found.slots.clamp_min(0)].masked_fill(~found.valid, NOBODY)
        return owners.cpu().numpy(), found.scores.float().cpu().numpy()

    def distances(self, rows: np.ndarray, seats: np.ndarray) -> np.ndarray:
        """``(batch,)`` the least cosine distance of each row to the samples of its seat; inf where there are none."""
        slots = torch.from_numpy(seats)[:, None] * self.kept + torch.arange(self.kept)
        slots = slots.to(self.device)
        queries = torch.nn.functional.normalize(torch.from_numpy(rows).to(self.device), dim=1)
        alike = torch.einsum("bd,bkd->bk", queries, self.embeddings[slots].float())
        alike = alike.masked_fill(self.generations[slots] == 0, -torch.inf)
        return (1 - alike.amax(dim=1)).cpu().numpy()

    def erase(self, slots: Int64[Tensor, " samples"]) -> None:
        """Put zeros in the place of rows and all that is stored beside them."""
        for column in (self.embeddings, *self.fields.values(), self.steps, self.generations):
            column[slots] = 0

    def empty(self, seat: int) -> None:
        """Erase all of a seat."""
        self.erase(torch.arange(seat * self.kept, (seat + 1) * self.kept, device=self.device))
        self._taken[seat] = 0

    @property
    def _taken(self) -> Int64[Tensor, " seats"]:
        return self.replacement.get_buffer("taken")

    def refill(self, seat: int, samples: BankView, identity: int) -> None:
        """Give a seat samples that the bank held before, oldest first, in place of its own."""
        self.empty(seat)
        for row in samples.steps.argsort(stable=True).split(1):
            one = samples.rows(row)
            fields = {**one.fields, "identity": torch.full_like(row, identity), "seat": torch.full_like(row, seat)}
            self._push(one.embeddings, fields, step=one.steps[0], check=False)

    def combine(self, seat: int, other: int, identity: int) -> None:
        """Give a seat the samples of another beside its own; the other is empty then."""
        if self.rule == "mean":
            weights = self._taken[[seat, other]].float()
            means = self.embeddings[[seat, other]].float()
            self.embeddings[seat] = (weights @ means / weights.sum().clamp_min(1)).to(self.dtype)
            self.generations[seat] += self.generations[other]
            self._taken[seat] += self._taken[other]
        else:
            both = torch.cat([self.slots_of(seat), self.slots_of(other)])
            self.refill(seat, self.gather(both), identity)
        self.empty(other)


def rounds(seats: np.ndarray) -> list[np.ndarray]:
    """Cut a batch into parts that hold no seat twice, in order."""
    if len(np.unique(seats)) == len(seats):
        return [np.arange(len(seats))]
    order = np.argsort(seats, kind="stable")
    starts = np.searchsorted(seats[order], seats[order])
    number = np.empty_like(order)
    number[order] = np.arange(len(seats)) - starts
    return [np.flatnonzero(number == turn) for turn in range(int(number.max()) + 1)]
