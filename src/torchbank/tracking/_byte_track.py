"""ByteTrack, for detections that come without track ids."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from torchbank.errors import BankValueError
from torchbank.evaluation import overlaps
from torchbank.tracking._motion import Motion

__all__ = ["ByteTrack", "assign"]

# Overlaps below which boxes never match: with sure boxes, with unsure boxes, and for tracks of a single frame. The
# last two and the margin of a new track are of the authors' code, for which the paper leaves them open.
_SURE, _UNSURE, _TENTATIVE, _MARGIN = 0.2, 0.5, 0.3, 0.1


class _States(NamedTuple):
    """One entry a track: its id, the class, frames since it was last seen, and whether it was seen twice in a row."""

    ids: Int[np.ndarray, " tracks"]
    classes: Int[np.ndarray, " tracks"]
    missed: Int[np.ndarray, " tracks"]
    confirmed: Bool[np.ndarray, " tracks"]

    def keep(self, tracks: Bool[np.ndarray, " tracks"]) -> "_States":
        return _States(*(column[tracks] for column in self))


class ByteTrack:
    """Joins boxes of neighbouring frames by overlap, the sure ones first.

    Algorithm 1 of [Zhang et al. 2022](arXiv:2110.06864). It looks at no appearance and forgets whoever is out of
    sight for ``buffer`` frames: what an `IdentityLinker` behind it mends.

    Args:
        buffer: Frames for which a lost track is kept.
        high_score: Boxes of a higher score are sure; a new track needs 0.1 more.
        low_score: Boxes of a lower score are left out.

    Raises:
        BankValueError: ``buffer`` is below 1, or not 0 <= ``low_score`` <= ``high_score``.

    Example:
        >>> tracker = ByteTrack()
        >>> for x in (0.0, 4.0, 8.0):
        ...     ids = tracker.update(np.array([[x, 0.0, x + 20, 50.0]]), np.array([0.9]))
        >>> ids
        array([1])
    """

    def __init__(self, *, buffer: int = 30, high_score: float = 0.6, low_score: float = 0.1) -> None:
        if buffer < 1 or not 0 <= low_score <= high_score:
            msg = (
                f"buffer is {buffer}, low_score {low_score} and high_score {high_score}; expected 1 or more frames and "
                "0 <= low <= high"
            )
            raise BankValueError(msg)
        self.buffer, self.high_score, self.low_score = buffer, high_score, low_score
        self._motion = Motion()
        nothing = np.zeros(0, dtype=np.int64)
        self._states = _States(nothing, nothing, nothing, nothing.astype(bool))
        self._given = 0
        self._frames = 0

    def update(
        self,
        boxes: Float[np.ndarray, "n 4"],
        scores: Float[np.ndarray, " n"],
        classes: Int[np.ndarray, " n"] | None = None,
    ) -> Int[np.ndarray, " n"]:
        """Take the boxes of the next frame; a frame without any counts too.

        Args:
            boxes: ``(n, 4)`` x1, y1, x2, y2.
            scores: ``(n,)`` of the detector.
            classes: ``(n,)``; only boxes of one class are joined. One class by default.

        Returns:
            ``(n,)`` ids from 1; -1 where a box began no track and belongs to none.
        """
        classes = np.zeros(len(boxes), dtype=np.int64) if classes is None else classes
        found = np.full(len(boxes), -1)
        self._frames += 1
        self._motion.velocity[self._states.missed > 0, 3] = 0
        self._motion.predict()
        overlap = overlaps(self._motion.boxes, boxes.astype(np.float64))
        overlap[self._states.classes[:, None] != classes[None, :]] = 0
        sure, unsure = scores > self.high_score, (scores > self.low_score) & (scores <= self.high_score)
        free = np.ones(len(self._states.ids), dtype=bool)
        # Sure boxes are worth more the surer they are.
        rounds = (
            (self._states.confirmed, sure, _SURE, overlap * scores[None, :]),
            (self._states.confirmed & (self._states.missed == 0), unsure, _UNSURE, overlap),
            (~self._states.confirmed, sure, _TENTATIVE, overlap * scores[None, :]),
        )
        for of_tracks, of_boxes, least, worth in rounds:
            rows, columns = np.flatnonzero(of_tracks & free), np.flatnonzero(of_boxes & (found < 0))
            for row, column in assign(worth[np.ix_(rows, columns)], least):
                found[columns[column]] = rows[row]
                free[rows[row]] = False
        return self._advance(boxes, classes, found, sure & (scores > self.high_score + _MARGIN))

    def _advance(self, boxes: np.ndarray, classes: np.ndarray, found: np.ndarray, may_begin: np.ndarray) -> np.ndarray:
        """Correct what was found, drop what is lost, begin what is new; ``found`` holds track rows."""
        seen = found >= 0
        self._motion.correct(found[seen], boxes[seen])
        ids = np.where(seen, self._states.ids[found] if len(self._states.ids) else -1, -1)
        missed = self._states.missed + 1
        missed[found[seen]] = 0
        confirmed = self._states.confirmed | (missed == 0)
        states = _States(self._states.ids, self._states.classes, missed, confirmed)
        kept = np.where(confirmed, missed <= self.buffer, missed == 0)
        self._motion.keep(kept)
        begun = may_begin & ~seen
        ids[begun] = self._given + 1 + np.arange(begun.sum())
        self._given += int(begun.sum())
        self._motion.append(boxes[begun])
        # In the first frame there is nothing to confirm a track by.
        first = np.full(begun.sum(), self._frames == 1)
        new = _States(ids[begun], classes[begun], np.zeros(begun.sum(), dtype=np.int64), first)
        self._states = _States(*(np.concatenate(pair) for pair in zip(states.keep(kept), new, strict=True)))
        return ids


def assign(worth: Float[np.ndarray, "n m"], least: float) -> list[tuple[int, int]]:
    """Pairs of rows and columns, each in one pair at most, that together are worth the most above ``least`` each."""
    from scipy.optimize import linear_sum_assignment

    above = np.clip(worth - least, 0, None)
    pairs = zip(*linear_sum_assignment(above, maximize=True), strict=True)
    return [(int(row), int(column)) for row, column in pairs if above[row, column] > 0]
