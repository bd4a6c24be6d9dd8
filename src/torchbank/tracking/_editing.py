"""What a user changes in a gallery by hand: identities merged, split, renamed, forgotten."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch

from torchbank.banks import BankView
from torchbank.errors import BankStateError, BankValueError
from torchbank.tracking._identities import Identities, Sighting
from torchbank.tracking._sample_bank import SampleBank


class Editing(ABC):
    """The part of `IdentityGallery` that mends what was decided wrongly, and deletes."""

    bank: SampleBank
    retention: float | None
    edits: int
    table: Identities
    _next: int
    moment: int
    _aliases: dict[int, int]
    _sweep_due: float

    @abstractmethod
    def samples(self, identity: int) -> BankView:
        """See `IdentityGallery.samples`."""

    @abstractmethod
    def reserve(self) -> int:
        """See `IdentityGallery.reserve`."""

    def resolve(self, identity: int) -> int:
        """The number that an identity has now, after merges and renames."""
        while identity in self._aliases:
            identity = self._aliases[identity]
        return identity

    def merge(self, kept: int, gone: int) -> None:
        """Make two identities one: the samples of the second go to the first, whose number stays.

        Raises:
            BankKeyError: One is not in the gallery.
            BankValueError: Both are the same.
        """
        if kept == gone:
            msg = f"identity {kept} cannot be merged with itself; give two identities"
            raise BankValueError(msg)
        seat, other = self.table.seats_of([kept, gone]).tolist()
        self.bank.combine(seat, other, kept)
        self.table.absorb(kept, gone)
        self.table.leave(gone)
        self._aliases[gone] = kept
        self.edits += 1

    def split(self, identity: int, samples: Sequence[int] | np.ndarray) -> int:
        """Make some samples of an identity a new one.

        Args:
            identity: Which.
            samples: Their places in `samples`, from 0; neither none nor all of them.

        Returns:
            The new identity.

        Raises:
            BankKeyError: The identity is not in the gallery.
            BankValueError: The samples do not leave both identities one.
            BankStateError: Every identity in the gallery is live.
        """
        seat, view = self.table.seat(identity), self.samples(identity)
        chosen = np.zeros(len(view.steps), dtype=bool)
        places = np.asarray(samples, dtype=np.int64)
        if len(places) and (places.min() < 0 or places.max() >= len(chosen)):
            msg = f"samples {places.tolist()} are not all among the {len(chosen)} of identity {identity}"
            raise BankValueError(msg)
        chosen[places] = True
        if chosen.all() or not chosen.any():
            msg = (
                f"{int(chosen.sum())} of {len(chosen)} samples of identity {identity} leave one side empty; choose some"
            )
            raise BankValueError(msg)
        sides = [view.rows(torch.from_numpy(np.flatnonzero(side))) for side in (chosen, ~chosen)]
        new = self.reserve()
        new_seat = self._seat_beside(seat, new, sides[0])
        self.bank.refill(new_seat, sides[0], new)
        self.bank.refill(seat, sides[1], identity)
        self.edits += 1
        return new

    def _seat_beside(self, seat: int, new: int, samples: BankView) -> int:
        """Seat a new identity, last seen when the last of its samples was taken, and not in place of its other half."""
        columns, fields = self.table.columns, samples.fields
        when = Sighting(self.moment, int(fields["source"][-1]), int(fields["frame"][-1]), float(fields["time"][-1]))
        columns["pins"][seat] += 1
        try:
            new_seat, evicted = self.table.take_seat(new, int(columns["label"][seat]), when)
        finally:
            columns["pins"][seat] -= 1
        if evicted:
            self.bank.empty(new_seat)
        return new_seat

    def rename(self, identity: int, number: int) -> None:
        """Give an identity another number.

        Raises:
            BankKeyError: It is not in the gallery.
            BankValueError: The number is taken, was given to another identity before, or is not positive.
        """
        seat = self.table.seat(identity)
        if not isinstance(number, int) or number < 1 or number in self.table.seats or number in self._aliases:
            msg = f"identity {identity} cannot be renamed to {number}; give a positive number that is not in use"
            raise BankValueError(msg)
        self.table.rename(identity, number)
        self.bank.fields["identity"][self.bank.slots_of(seat)] = number
        self._next = max(self._next, number + 1)
        self._aliases[identity] = number
        self.edits += 1

    def forget(self, identity: int) -> None:
        """Delete an identity: every sample, and all that is known of it. `save` then writes a file without it.

        Raises:
            BankKeyError: It is not in the gallery.
        """
        seat = self.table.seat(identity)
        self.table.leave(identity)
        self.bank.empty(seat)
        self._aliases = {old: new for old, new in self._aliases.items() if self.resolve(old) != identity}
        self.edits += 1

    def expire(self, now: float) -> list[int]:
        """Forget what was last seen more than ``retention`` seconds before now and is not in view.

        Returns:
            The identities that were forgotten.

        Raises:
            BankStateError: The gallery has no retention.
        """
        if self.retention is None:
            msg = "this gallery keeps identities for ever; build it with retention= in seconds"
            raise BankStateError(msg)
        gone = self.table.expired(now - self.retention)
        for identity in gone:
            self.forget(identity)
        oldest = np.nanmin(self.table.columns["last_time"], initial=now)
        # Whoever is pinned may be the oldest, and is looked at again within a hundredth of the retention.
        self._sweep_due = max(oldest + self.retention, now + self.retention / 100)
        return gone
