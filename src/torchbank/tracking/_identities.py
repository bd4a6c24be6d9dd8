"""Who is in a gallery: one seat for each identity, and which seat is given up for a new one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from torchbank.errors import BankKeyError, BankStateError, BankValueError

NOBODY = 0
"""What an empty seat holds in place of an identity; identities count from 1."""

NO_FRAME = -1

COLUMNS: dict[str, tuple[type, float]] = {
    "identity": (np.int64, NOBODY),
    "label": (np.int64, -1),
    "source": (np.int64, -1),
    "seen": (np.int64, 0),
    "sightings": (np.int64, 0),
    "pins": (np.int64, 0),
    "first_frame": (np.int64, NO_FRAME),
    "last_frame": (np.int64, NO_FRAME),
    "first_time": (np.float64, np.nan),
    "last_time": (np.float64, np.nan),
}


class Sighting(NamedTuple):
    """When and where identities were seen.

    Attributes:
        moment: A count that grows with every sighting.
        source: Number of the camera or video, -1 for none.
        frame: Of that source, -1 for none.
        time: In seconds, NaN for none.
    """

    moment: int
    source: int = -1
    frame: int = NO_FRAME
    time: float = np.nan


class Identities:
    """The table of identities: columns of `COLUMNS`, one row for each seat.

    Args:
        seats: How many there is room for.
    """

    def __init__(self, seats: int) -> None:
        self.columns = {name: np.full(seats, empty, dtype) for name, (dtype, empty) in COLUMNS.items()}
        self._index()

    def _index(self) -> None:
        identity = self.columns["identity"]
        self.seats = {int(identity[seat]): int(seat) for seat in np.flatnonzero(identity)}
        # The lowest seat is taken first.
        self._free = [int(seat) for seat in np.flatnonzero(identity == NOBODY)[::-1]]

    @property
    def nbytes(self) -> int:
        """Bytes of the columns."""
        return sum(column.nbytes for column in self.columns.values())

    def seat(self, identity: int) -> int:
        """Where an identity sits.

        Raises:
            BankKeyError: It is not in the gallery.
        """
        try:
            return self.seats[identity]
        except KeyError:
            msg = f"identity {identity} is not in the gallery; it was never enrolled, or evicted, expired or forgotten"
            raise BankKeyError(msg) from None

    def seats_of(self, identities: Sequence[int] | np.ndarray) -> np.ndarray:
        """Where each of some identities sits, ``(n,)`` int64.

        Raises:
            BankKeyError: One is not in the gallery.
        """
        return np.array([self.seat(int(identity)) for identity in identities], dtype=np.int64)

    def row(self, seat: int) -> dict[str, Any]:
        """What is known of whoever has a seat, by name; ``source`` is a number, ``live`` is whether there are pins."""
        row = {name: column[seat].item() for name, column in self.columns.items()}
        live = row.pop("pins") > 0
        del row["seen"]
        return {**row, "live": live}

    def pin(self, identities: Sequence[int] | np.ndarray, count: int) -> None:
        """Count that identities are in view in so many places more, or fewer, but not in fewer than none.

        Raises:
            BankKeyError: One is not in the gallery.
        """
        pins, seats = self.columns["pins"], self.seats_of(identities)
        pins[seats] = np.maximum(pins[seats] + count, 0)

    @property
    def has_room(self) -> bool:
        """Whether one more identity can be seated, if need be in the place of another."""
        return bool(self._free) or not self.columns["pins"].all()

    def take_seat(self, identity: int, label: int, sighting: Sighting) -> tuple[int, int]:
        """Seat a new identity, in place of the least recently seen one that is not pinned if all seats are taken.

        Returns:
            The seat, and the identity that it was taken from, or `NOBODY`.

        Raises:
            BankStateError: Every identity is pinned.
        """
        seat, evicted = (self._free[-1], NOBODY) if self._free else self._least_recently_seen()
        if evicted != NOBODY:
            self.leave(evicted)
        self._free.pop()
        self._reset(seat)
        self.seats[identity] = seat
        columns = self.columns
        columns["identity"][seat], columns["label"][seat] = identity, label
        columns["first_frame"][seat], columns["first_time"][seat] = sighting.frame, sighting.time
        self.note(np.array([seat]), sighting, counted=0)
        return seat, evicted

    def _least_recently_seen(self) -> tuple[int, int]:
        columns = self.columns
        if not self.has_room:
            msg = (
                f"all {len(columns['pins'])} identities of the gallery are live and pinned; there is no room for one "
                "more: build the gallery with a larger max_identities"
            )
            raise BankStateError(msg)
        seen = np.where(columns["pins"] > 0, np.iinfo(np.int64).max, columns["seen"])
        seat = int(seen.argmin())
        return seat, int(columns["identity"][seat])

    def note(self, seats: np.ndarray, sighting: Sighting, counted: int = 1) -> None:
        """Mark identities as seen."""
        columns = self.columns
        columns["seen"][seats] = sighting.moment
        columns["source"][seats] = sighting.source
        columns["last_frame"][seats] = sighting.frame
        columns["last_time"][seats] = sighting.time
        columns["sightings"][seats] += counted

    def leave(self, identity: int) -> int:
        """Free the seat of an identity and blank its row.

        Returns:
            The seat.
        """
        seat = self.seat(identity)
        del self.seats[identity]
        self._reset(seat)
        self._free.append(seat)
        return seat

    def _reset(self, seat: int) -> None:
        for name, (_, empty) in COLUMNS.items():
            self.columns[name][seat] = empty

    def rename(self, old: int, new: int) -> None:
        """Give an identity another number."""
        self.seats[new] = self.seats.pop(old)
        self.columns["identity"][self.seats[new]] = new

    def absorb(self, kept: int, gone: int) -> None:
        """Take over when and where another identity was seen, before it leaves."""
        columns, a, b = self.columns, self.seat(kept), self.seat(gone)
        columns["sightings"][a] += columns["sightings"][b]
        columns["pins"][a] += columns["pins"][b]
        if columns["seen"][b] > columns["seen"][a]:
            for name in ("seen", "source", "last_frame", "last_time"):
                columns[name][a] = columns[name][b]
        if np.fmin(columns["first_time"][a], columns["first_time"][b]) == columns["first_time"][b]:
            columns["first_time"][a], columns["first_frame"][a] = columns["first_time"][b], columns["first_frame"][b]

    def expired(self, before: float) -> list[int]:
        """Identities, none of them pinned, that were last seen before a time."""
        columns = self.columns
        with np.errstate(invalid="ignore"):
            late = (columns["last_time"] < before) & (columns["pins"] == 0)
        return [int(identity) for identity in columns["identity"][late]]

    def load(self, columns: dict[str, np.ndarray]) -> None:
        """Take the rows of another table.

        Raises:
            BankValueError: They do not make a table.
        """
        for name, (dtype, _) in COLUMNS.items():
            given = columns.get(name)
            if given is None or given.shape != self.columns[name].shape or given.dtype != dtype:
                msg = f"column {name!r} of the identities is missing or not {self.columns[name].shape} of {dtype}"
                raise BankValueError(msg)
        self.columns = {name: columns[name].copy() for name in COLUMNS}
        # Nobody is live before a linker says so.
        self.columns["pins"][:] = 0
        self._index()
        if len(self.seats) + len(self._free) != len(self.columns["identity"]):
            msg = "the identities are not distinct"
            raise BankValueError(msg)
