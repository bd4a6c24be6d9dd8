"""DeepSORT, the appearance tracker to beat, from its paper ([Wojke et al. 2017](arXiv:1703.07402)).

A track keeps its last 100 embeddings. The cascade matches the tracks seen most recently first: by the smallest cosine
distance to any kept embedding, where the motion allows it. What is left is matched by overlap. With a long
``max_age`` the motion's variance grows until the gate is open everywhere, so that appearance alone decides: a long
buffer is a memory too, of whoever still has a track.
"""

import numpy as np

from torchbank.evaluation import overlaps
from torchbank.tracking._byte_track import assign
from torchbank.tracking._motion import Motion

GATE = 9.4877  # chi-square of 4 degrees of freedom, 0.95
LEAST_OVERLAP, BUDGET, CONFIRMED = 0.3, 100, 3


class Track:
    """What is kept of one, beside its motion."""

    def __init__(self, number: int, embedding: np.ndarray) -> None:
        self.id, self.hits, self.missed = number, 1, 0
        self.samples = [embedding] if np.isfinite(embedding).all() else []

    @property
    def confirmed(self) -> bool:
        """Whether it was seen often enough."""
        return self.hits >= CONFIRMED

    def see(self, embedding: np.ndarray) -> None:
        """Take a detection."""
        self.hits, self.missed = self.hits + 1, 0
        if np.isfinite(embedding).all():
            self.samples = [*self.samples[1 - BUDGET :], embedding]


class DeepSort:
    """The tracker.

    Args:
        max_age: Frames for which a lost track is kept.
        distance: The largest cosine distance of a match.
    """

    def __init__(self, *, max_age: int = 30, distance: float = 0.2) -> None:
        self.max_age, self.distance = max_age, distance
        self.motion, self.tracks, self.given = Motion(), [], 0

    def update(self, boxes: np.ndarray, scores: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """Take the detections of the next frame and return their ids; -1 is none yet."""
        self.motion.predict()
        for track in self.tracks:
            track.missed += 1
        found = np.full(len(boxes), -1)
        if len(boxes) and self.tracks:
            self._cascade(boxes, embeddings, found)
            self._by_overlap(boxes, found)
        return self._advance(boxes, scores, embeddings, found)

    def _cascade(self, boxes: np.ndarray, embeddings: np.ndarray, found: np.ndarray) -> None:
        likeness = self._likeness(embeddings)
        likeness[self.motion.distances(boxes) > GATE] = -1
        for missed in sorted({track.missed for track in self.tracks if track.confirmed}):
            rows = np.array([r for r, track in enumerate(self.tracks) if track.confirmed and track.missed == missed])
            columns = np.flatnonzero(found < 0)
            for row, column in assign(likeness[np.ix_(rows, columns)], 1 - self.distance):
                found[columns[column]] = rows[row]

    def _likeness(self, embeddings: np.ndarray) -> np.ndarray:
        """The largest cosine to any sample of each track; -1 where there is no evidence."""
        likeness = np.full((len(self.tracks), len(embeddings)), -1.0)
        counts = [len(track.samples) for track in self.tracks]
        samples = [sample for track in self.tracks for sample in track.samples]
        if samples:
            cosines = np.stack(samples) @ np.nan_to_num(embeddings, nan=0).T
            cosines[:, ~np.isfinite(embeddings).all(axis=1)] = -1
            filled = np.flatnonzero(counts)
            starts = (np.cumsum(counts) - counts)[filled]
            likeness[filled] = np.maximum.reduceat(cosines, starts, axis=0)
        return likeness

    def _by_overlap(self, boxes: np.ndarray, found: np.ndarray) -> None:
        taken = set(found.tolist())
        rows = [
            r for r, track in enumerate(self.tracks) if r not in taken and (not track.confirmed or track.missed == 1)
        ]
        columns = np.flatnonzero(found < 0)
        overlap = overlaps(self.motion.boxes[rows], boxes[columns])
        for row, column in assign(overlap, LEAST_OVERLAP):
            found[columns[column]] = rows[row]

    def _advance(self, boxes: np.ndarray, scores: np.ndarray, embeddings: np.ndarray, found: np.ndarray) -> np.ndarray:
        seen = np.flatnonzero(found >= 0)
        self.motion.correct(found[seen], boxes[seen])
        for box in seen:
            self.tracks[found[box]].see(embeddings[box])
        ids = np.array([self.tracks[row].id if row >= 0 else -1 for row in found], dtype=np.int64)
        kept = [track.missed <= (self.max_age if track.confirmed else 0) for track in self.tracks]
        self.tracks = [track for track, keep in zip(self.tracks, kept, strict=True) if keep]
        self.motion.keep(np.array(kept, dtype=bool))
        new = np.flatnonzero((found < 0) & (scores > 0.6))
        self.motion.append(boxes[new])
        for box in new:
            self.given += 1
            ids[box] = self.given
            self.tracks.append(Track(self.given, embeddings[box]))
        return ids
