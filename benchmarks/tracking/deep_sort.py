"""DeepSORT, the appearance tracker to beat, from its paper ([Wojke et al. 2017](arXiv:1703.07402)).

A track keeps its last 100 embeddings. The cascade matches the tracks seen most recently first: by the smallest cosine
distance to any kept embedding, where the motion allows it. What is left is matched by overlap. With a long
``max_age`` the motion's variance grows until the gate is open everywhere, so that appearance alone decides: a long
buffer is a memory too, of whoever still has a track.
"""

from typing import NamedTuple

import numpy as np

from torchbank.evaluation import overlaps
from torchbank.tracking._byte_track import assign
from torchbank.tracking._motion import Motion

GATE = 9.4877  # chi-square of 4 degrees of freedom, 0.95
LEAST_OVERLAP, BUDGET, CONFIRMED = 0.3, 100, 3


class Samples:
    """The last `BUDGET` embeddings of each track: ``(tracks, BUDGET, dim)``, a ring each.

    A ring is first filled with the one embedding that there is, which changes no maximum.
    """

    def __init__(self) -> None:
        self.rings = np.zeros((0, BUDGET, 0), dtype=np.float32)
        self.counts = np.zeros(0, dtype=np.int64)

    def append(self, embeddings: np.ndarray) -> None:
        """Begin a track at each."""
        new = np.repeat(np.nan_to_num(embeddings, nan=0)[:, None], BUDGET, axis=1)
        self.rings = np.concatenate([self.rings, new]) if len(self.rings) else new
        self.counts = np.concatenate([self.counts, np.isfinite(embeddings).all(axis=1).astype(np.int64)])

    def see(self, tracks: np.ndarray, embeddings: np.ndarray) -> None:
        """Take one more of some tracks, where it is evidence."""
        good = np.isfinite(embeddings).all(axis=1)
        tracks, embeddings = tracks[good], embeddings[good]
        first = self.counts[tracks] == 0
        self.rings[tracks[first]] = embeddings[first, None]
        self.rings[tracks, self.counts[tracks] % BUDGET] = embeddings
        self.counts[tracks] += 1

    def keep(self, tracks: np.ndarray) -> None:
        """Forget the tracks that are not marked."""
        if not tracks.all():
            self.rings, self.counts = self.rings[tracks], self.counts[tracks]

    def likeness(self, embeddings: np.ndarray) -> np.ndarray:
        """``(tracks, n)`` the largest cosine to any sample of each track; -1 where there is no evidence."""
        cosines = self.rings.reshape(-1, embeddings.shape[1]) @ np.nan_to_num(embeddings, nan=0).T
        likeness = cosines.reshape(len(self.rings), BUDGET, -1).max(axis=1)
        likeness[self.counts == 0] = -1
        likeness[:, ~np.isfinite(embeddings).all(axis=1)] = -1
        return likeness


class States(NamedTuple):
    """One entry a track: its id, how often it was seen, and the frames since."""

    ids: np.ndarray
    hits: np.ndarray
    missed: np.ndarray

    @property
    def confirmed(self) -> np.ndarray:
        """Which were seen often enough."""
        return self.hits >= CONFIRMED


class DeepSort:
    """The tracker.

    Args:
        max_age: Frames for which a lost track is kept.
        distance: The largest cosine distance of a match.
    """

    def __init__(self, *, max_age: int = 30, distance: float = 0.2) -> None:
        self.max_age, self.distance = max_age, distance
        self.motion, self.samples, self.given = Motion(), Samples(), 0
        self.states = States(*np.zeros((3, 0), dtype=np.int64))

    def update(self, boxes: np.ndarray, scores: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """Take the detections of the next frame and return their ids; -1 is none yet."""
        self.motion.predict()
        self.states = self.states._replace(missed=self.states.missed + 1)
        found = np.full(len(boxes), -1)
        if len(boxes) and len(self.states.ids):
            self._cascade(boxes, embeddings, found)
            self._by_overlap(boxes, found)
        return self._advance(boxes, scores, embeddings, found)

    def _cascade(self, boxes: np.ndarray, embeddings: np.ndarray, found: np.ndarray) -> None:
        likeness = self.samples.likeness(embeddings)
        likeness[self.motion.distances(boxes) > GATE] = -1
        confirmed, missed = self.states.confirmed, self.states.missed
        for age in np.unique(missed[confirmed]):
            rows, columns = np.flatnonzero(confirmed & (missed == age)), np.flatnonzero(found < 0)
            for row, column in assign(likeness[np.ix_(rows, columns)], 1 - self.distance):
                found[columns[column]] = rows[row]

    def _by_overlap(self, boxes: np.ndarray, found: np.ndarray) -> None:
        free = ~self.states.confirmed | (self.states.missed == 1)
        free[found[found >= 0]] = False
        rows, columns = np.flatnonzero(free), np.flatnonzero(found < 0)
        overlap = overlaps(self.motion.boxes[rows], boxes[columns])
        for row, column in assign(overlap, LEAST_OVERLAP):
            found[columns[column]] = rows[row]

    def _advance(self, boxes: np.ndarray, scores: np.ndarray, embeddings: np.ndarray, found: np.ndarray) -> np.ndarray:
        seen = np.flatnonzero(found >= 0)
        rows = found[seen]
        self.motion.correct(rows, boxes[seen])
        if len(rows):
            self.samples.see(rows, embeddings[seen])
        ids, hits, missed = (column.copy() for column in self.states)
        hits[rows] += 1
        missed[rows] = 0
        given = np.full(len(boxes), -1, dtype=np.int64)
        given[seen] = ids[rows]
        kept = missed <= np.where(hits >= CONFIRMED, self.max_age, 0)
        self.motion.keep(kept)
        self.samples.keep(kept)
        new = np.flatnonzero((found < 0) & (scores > 0.6))
        given[new] = self.given + 1 + np.arange(len(new))
        self.given += len(new)
        if len(new):
            self.motion.append(boxes[new])
            self.samples.append(embeddings[new])
        fresh = (given[new], np.ones_like(new), np.zeros_like(new))
        columns = zip((ids, hits, missed), fresh, strict=True)
        self.states = States(*(np.concatenate([old[kept], more]) for old, more in columns))
        return given
