"""Which identities a new track can be, and how similar they are.

Axes: n (tracks that decide now), seats (of the gallery), m (identities that any of them may be).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from torchbank.tracking._tracks import Tracks
from torchbank.tracking.gallery import IdentityGallery

MOST = 64
"""Identities that are looked at for one track; so many that are all taken by others are more than a crowd."""


@dataclass
class Source:
    """Where one video stands.

    Attributes:
        name: Its name.
        number: Its number in the gallery.
        frame: The last frame.
        time: Its time in seconds, or None.
        updates: How many frames there were.
        moment: Of the gallery, after the last frame.
        turn: Of all frames of all videos, the number of the last.
    """

    name: str
    number: int
    frame: int = -1
    time: float | None = None
    updates: int = 0
    moment: int = 0
    turn: int = 0

    @property
    def sighting(self) -> dict[str, Any]:
        """When and where, as the gallery's methods take it."""
        return {"frame": self.frame, "time": self.time, "source": self.name}


class Constraints(NamedTuple):
    """What is known of the cameras.

    Attributes:
        overlapping: Pairs of sources that see one place.
        travel_time: Seconds that the way from one source to another takes at least.
    """

    overlapping: frozenset[frozenset[str]]
    travel_time: Mapping[tuple[str, str], float]

    def overlap(self, one: str, other: str) -> bool:
        """Whether an object can be in both at once."""
        return frozenset((one, other)) in self.overlapping

    def seconds(self, start: str, end: str) -> float | None:
        """The least time of the way; that of the way back if only that is known."""
        return self.travel_time.get((start, end), self.travel_time.get((end, start)))


def eligible(
    gallery: IdentityGallery, tracks: Tracks, rows: np.ndarray, where: Source, constraints: Constraints
) -> np.ndarray:
    """``(n, seats)`` bool: who was not in view since the track can have begun, and can have come here since."""
    seated, source = gallery.table.columns["identity"] > 0, gallery.table.columns["source"]
    may = seated & (gallery.table.columns["seen"] < tracks["begun"][rows][:, None])
    beside = [number for number, name in enumerate(gallery.sources) if constraints.overlap(name, where.name)]
    if beside:
        may |= seated & np.isin(source, beside)
        may &= ~_here_since(gallery, tracks, rows, where)
    for number, name in enumerate(gallery.sources):
        seconds = constraints.seconds(name, where.name)
        if seconds is not None and number != where.number:
            away = np.abs(tracks["first_time"][rows][:, None] - gallery.table.columns["last_time"])
            may &= ~((away < seconds) & (source == number))
    return may


def _here_since(gallery: IdentityGallery, tracks: Tracks, rows: np.ndarray, where: Source) -> np.ndarray:
    """``(n, seats)`` bool: who was in this source since a track began, wherever they were seen last."""
    here = np.zeros((len(rows), gallery.max_identities), dtype=bool)
    for row in tracks.of(where.number).tolist():
        if tracks["final"][row] and int(tracks["identity"][row]) in gallery:
            seat = gallery.table.seats_of(tracks["identity"][[row]])[0]
            here[:, seat] |= tracks["last_frame"][row] >= tracks["first_frame"][rows]
    return here


def compare(
    gallery: IdentityGallery, queries: np.ndarray, labels: np.ndarray, may: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One read of the gallery for all tracks.

    Args:
        gallery: Who is known.
        queries: ``(n, dim)`` means of looks, of length 1 or less.
        labels: ``(n,)`` classes, -1 for none.
        may: As `eligible` gives it.

    Returns:
        ``(m,)`` identities; ``(n, m)`` their similarities, -inf where a track cannot be them or has better ones; and
        ``(n,)`` the best similarity with one that was found and that the track cannot be.
    """
    count, anyone = len(queries), np.logical_or.reduce(may, axis=0)
    nobody = np.empty(0, np.int64), np.empty((count, 0)), np.full(count, -np.inf)
    if not anyone.any():
        return nobody
    # The best of a track that are not all taken by other tracks, even if some of them are not open to it.
    k = min(count + 1 + int((anyone & ~may).sum(axis=1).max()), MOST, int(anyone.sum()))
    found = gallery.nearest(queries, k, classes=labels if (labels >= 0).any() else None, eligible=anyone)
    candidates = np.unique(found.identities[found.identities > 0])
    if not len(candidates):
        return nobody
    # One column more takes the places where fewer than k were found.
    whole = np.full((count, len(candidates) + 1), -np.inf)
    places = np.where(found.identities > 0, np.searchsorted(candidates, found.identities), len(candidates))
    lengths = np.linalg.norm(queries, axis=1, keepdims=True)
    np.put_along_axis(whole, places, (found.similarities * lengths).astype(np.float64), axis=1)
    similarities, is_open = whole[:, :-1], may[:, gallery.table.seats_of(candidates)]
    rivals = np.where(is_open, -np.inf, similarities).max(axis=1)
    return candidates, np.where(is_open, similarities, -np.inf), rivals


def alike(gallery: IdentityGallery, identities: np.ndarray) -> np.ndarray:
    """``(m, m)`` the largest similarity of two samples, for each two identities."""
    samples = [gallery.samples(int(identity)).embeddings.float().cpu().numpy() for identity in identities]
    starts = np.cumsum([0, *map(len, samples[:-1])])
    every = np.concatenate(samples)
    by_owner = np.maximum.reduceat(every @ every.T, starts, axis=1)
    return np.maximum.reduceat(by_owner, starts, axis=0)
