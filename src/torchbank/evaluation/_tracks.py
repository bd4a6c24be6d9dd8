"""Boxes with identities in frames: what a tracker says, or what is true."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from torchbank.errors import BankTypeError, BankValueError

__all__ = ["Tracks", "check_tracks", "frames_of_both"]


class Tracks(NamedTuple):
    """Rows of a video, in any order; an ordinary tuple of the three does as well.

    Rows of several videos or cameras make one `Tracks` when no frame number occurs in two of them: shift those of
    each by the length of the one before. An identity is then the same person in all of them.

    Attributes:
        frames: ``(n,)`` integers.
        ids: ``(n,)`` integers; no two rows of a frame have the same.
        boxes: ``(n, 4)`` x1, y1, x2, y2.
    """

    frames: Any
    ids: Any
    boxes: Any


def check_tracks(name: str, tracks: Tracks | tuple[Any, Any, Any]) -> Tracks:
    """The rows as int64, int64 and float64 arrays, sorted by frame.

    Args:
        name: What to call them in an error.
        tracks: Anything that NumPy takes for arrays, CPU tensors too.

    Raises:
        BankTypeError: Frames or ids are no integers.
        BankValueError: The shapes do not fit, a box is not finite or is inside out, or a frame has an id twice.
    """
    frames, ids, boxes = (np.asarray(column) for column in tracks)
    boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
    if frames.ndim != 1 or ids.shape != frames.shape or boxes.shape != (len(frames), 4):
        msg = f"{name} has frames {frames.shape}, ids {ids.shape} and boxes {boxes.shape}; expected (n,), (n,), (n, 4)"
        raise BankValueError(msg)
    for word, column in (("frames", frames), ("ids", ids)):
        if len(column) and not np.issubdtype(column.dtype, np.integer):
            msg = f"{word} of {name} are {column.dtype}; expected integers"
            raise BankTypeError(msg)
    bad = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if bad.any():
        row = int(bad.argmax())
        msg = f"{name} has the box {boxes[row].tolist()} in row {row}; expected finite x1 <= x2 and y1 <= y2"
        raise BankValueError(msg)
    order = np.lexsort((ids, frames))
    frames, ids, boxes = frames[order].astype(np.int64), ids[order].astype(np.int64), boxes[order].astype(np.float64)
    twice = (np.diff(frames) == 0) & (np.diff(ids) == 0)
    if twice.any():
        row = int(twice.argmax())
        msg = f"{name} has id {ids[row]} twice in frame {frames[row]}; expected each id once in a frame"
        raise BankValueError(msg)
    return Tracks(frames, ids, boxes)


def frames_of_both(truth: Tracks, output: Tracks) -> Iterator[tuple[int, slice, slice]]:
    """Every frame that one of them has rows in, with its rows of each; both as `check_tracks` gives them."""
    for frame in np.union1d(truth.frames, output.frames):
        ours, theirs = (slice(*np.searchsorted(rows.frames, [frame, frame + 1]).tolist()) for rows in (truth, output))
        yield int(frame), ours, theirs
