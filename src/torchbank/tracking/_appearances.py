"""What happened in a run: every box with its raw track id and its identity, in columns, and the visits they make.

Axes: n (boxes).
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from torchbank.errors import BankValueError

__all__ = ["Appearances", "Visit"]


@dataclass(frozen=True)
class Visit:
    """One unbroken stay of an identity in one source under one raw track id.

    Attributes:
        identity: Whose it is.
        source: Index into the names of `Appearances`.
        track_id: The tracker's id.
        rows: ``(n,)`` rows of the `Appearances`, in time order.
        begin: Time of the first one, seconds.
        end: Time of the last one.
    """

    identity: int
    source: int
    track_id: int
    rows: Int[np.ndarray, " n"]
    begin: float
    end: float


@dataclass(frozen=True)
class Appearances:
    """Boxes of one or several sources, one row each.

    Attributes:
        names: Of the sources.
        sources: ``(n,)``, index into ``names``.
        frames: ``(n,)`` of each source.
        times: ``(n,)`` seconds, of one clock for all sources.
        track_ids: ``(n,)`` of the tracker; numbers of two sources have nothing to do with each other.
        identities: ``(n,)``; 0 or less is none.
        boxes: ``(n, 4)`` x1, y1, x2, y2.
        scores: ``(n,)`` of the detector.
        classes: ``(n,)``.

    Raises:
        BankValueError: The columns are not of one length.
    """

    names: tuple[str, ...]
    sources: Int[np.ndarray, " n"]
    frames: Int[np.ndarray, " n"]
    times: Float[np.ndarray, " n"]
    track_ids: Int[np.ndarray, " n"]
    identities: Int[np.ndarray, " n"]
    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    classes: Int[np.ndarray, " n"]

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)[1:]}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} {length}" for name, length in lengths.items())
            msg = f"the columns have different lengths ({told}); expected one row for each box"
            raise BankValueError(msg)

    def __len__(self) -> int:
        """How many boxes."""
        return len(self.frames)

    def visits(self, absence: float = 1.0) -> list[Visit]:
        """The visits of all identities, in order of their begin.

        Args:
            absence: Seconds without a box that end a visit, though the tracker kept the id.
        """
        kept = np.flatnonzero(self.identities > 0)
        keys = (self.times[kept], self.track_ids[kept], self.sources[kept], self.identities[kept])
        rows = kept[np.lexsort(keys)]
        same = np.ones(max(len(rows) - 1, 0), dtype=bool)
        for column in (self.identities, self.sources, self.track_ids):
            same &= np.diff(column[rows]) == 0
        breaks = np.flatnonzero(~same | (np.diff(self.times[rows]) > absence)) + 1
        visits = [self._visit(part) for part in np.split(rows, breaks) if len(part)]
        return sorted(visits, key=lambda visit: (visit.begin, visit.identity))

    def _visit(self, rows: np.ndarray) -> Visit:
        first, last = rows[0], rows[-1]
        return Visit(
            identity=int(self.identities[first]),
            source=int(self.sources[first]),
            track_id=int(self.track_ids[first]),
            rows=rows,
            begin=float(self.times[first]),
            end=float(self.times[last]),
        )

    def histories(self, absence: float = 1.0) -> list[dict[str, Any]]:
        """The history of each identity for JSON: its visits in time order, with source, raw track id and ends."""
        told: dict[int, list[dict[str, Any]]] = {}
        for visit in self.visits(absence):
            told.setdefault(visit.identity, []).append(
                {
                    "source": self.names[visit.source],
                    "track_id": visit.track_id,
                    "first_frame": int(self.frames[visit.rows[0]]),
                    "last_frame": int(self.frames[visit.rows[-1]]),
                    "begin_seconds": round(visit.begin, 3),
                    "end_seconds": round(visit.end, 3),
                    "boxes": len(visit.rows),
                }
            )
        return [{"identity": identity, "visits": told[identity]} for identity in sorted(told)]
