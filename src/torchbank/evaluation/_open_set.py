"""Whether newcomers are taken for someone known, and whether those who return are known again.

Axes: rows of the truth, each with the id of the output box that covers it.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torchbank.errors import BankValueError
from torchbank.evaluation._overlaps import overlaps
from torchbank.evaluation._tracks import Tracks, check_tracks, frames_of_both

__all__ = ["OpenSetScores", "open_set"]


@dataclass(frozen=True)
class OpenSetScores:
    """What happened at each arrival; a rate is None where nobody arrived in this way.

    Attributes:
        merge_rate: Part of the newcomers that got the id of somebody who had been there before.
        miss_rate: Part of those who returned and did not get the id of their last visit.
        newcomers: First visits after somebody else's.
        returns: Later visits.
    """

    merge_rate: float | None
    miss_rate: float | None
    newcomers: int
    returns: int


def open_set(
    truth: Tracks | tuple[Any, Any, Any],
    output: Tracks | tuple[Any, Any, Any],
    *,
    absence: int = 30,
    iou: float = 0.5,
) -> OpenSetScores:
    """Judge each arrival: a visit begins when a true identity was absent for more than ``absence`` frames.

    The id of a visit is the one that most of its rows have; an id belongs to whoever had it first. IDF1 alone hides
    merged newcomers in a scene where most people return.

    Args:
        truth: Frames, ids and boxes.
        output: The same.
        absence: Frames.
        iou: Overlap from which an output box covers a true one.

    Raises:
        BankTypeError: Frames or ids are no integers.
        BankValueError: Shapes or boxes do not fit, an id is twice in a frame, ``absence`` is below 0, or ``iou`` is
            not in (0, 1].

    Example:
        Person 1 leaves and returns with the same id, and person 2, who is new, gets it too:

        >>> truth = ([0, 50, 90], [1, 1, 2], [[0, 0, 10, 10]] * 3)
        >>> open_set(truth, ([0, 50, 90], [5, 5, 5], [[0, 0, 10, 10]] * 3))
        OpenSetScores(merge_rate=1.0, miss_rate=0.0, newcomers=1, returns=1)
    """
    if absence < 0 or not 0 < iou <= 1:
        msg = f"absence is {absence} and iou {iou}; expected 0 or more frames and an overlap in (0, 1]"
        raise BankValueError(msg)
    true_rows, rows = check_tracks("truth", truth), check_tracks("output", output)
    covered = _covering_ids(true_rows, rows, iou)
    owner: dict[int, int] = {}
    last: dict[int, int | None] = {}
    merged, missed = [], []
    for person, visit in _visits(true_rows, absence):
        ids = Counter(given for row in visit if (given := covered[row]) is not None)
        found = ids.most_common(1)[0][0] if ids else None
        if person in last:
            missed.append(found is None or found != last[person])
        elif last:
            merged.append(found is not None and owner.get(found, person) != person)
        last[person] = found
        for given in ids:
            owner.setdefault(given, person)
    return OpenSetScores(_rate(merged), _rate(missed), len(merged), len(missed))


def _rate(events: list[bool]) -> float | None:
    return sum(events) / len(events) if events else None


def _visits(truth: Tracks, absence: int) -> list[tuple[int, list[int]]]:
    """Each visit's person and rows, in the order of arrival."""
    visits: list[tuple[int, list[int]]] = []
    latest: dict[int, list[int]] = {}
    for row, (frame, person) in enumerate(zip(truth.frames.tolist(), truth.ids.tolist(), strict=True)):
        if person not in latest or frame - truth.frames[latest[person][-1]] > absence:
            latest[person] = []
            visits.append((person, latest[person]))
        latest[person].append(row)
    return visits


def _covering_ids(truth: Tracks, output: Tracks, iou: float) -> list[int | None]:
    """The id of the output box that is matched to each row of the truth, by the most overlap in all."""
    from scipy.optimize import linear_sum_assignment

    found: list[int | None] = [None] * len(truth.frames)
    for _, ours, theirs in frames_of_both(truth, output):
        overlap = overlaps(truth.boxes[ours], output.boxes[theirs])
        overlap[overlap < iou] = 0
        for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
            if overlap[row, column] > 0:
                found[ours.start + row] = int(output.ids[theirs.start + column])
    return found
