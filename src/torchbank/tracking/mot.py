"""MOTChallenge text: one box a line, as most trackers and all scorers read it.

``frame, id, left, top, width, height, score, -1, -1, -1``, frames from 1 on, pixels, as in
[Leal-Taixé et al. 2015, section 3](arXiv:1504.01942).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from torchbank.errors import BankFileNotFoundError, BankValueError, FileFormatError
from torchbank.io import atomic_write
from torchbank.tracking._doors import as_integers


class MotRows(NamedTuple):
    """The boxes of a MOT text.

    Attributes:
        frames: ``(n,)`` int64, from 1 on.
        track_ids: ``(n,)`` int64, -1 for none.
        boxes: ``(n, 4)`` float64 as x1 y1 x2 y2.
        scores: ``(n,)`` float64, 1 where the text has none.
    """

    frames: np.ndarray
    track_ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


def read_mot(path: str | Path) -> MotRows:
    """Read a MOT text: results, detections or ground truth.

    Args:
        path: A file of lines with 6 numbers or more, separated by commas or spaces.

    Returns:
        `MotRows` in the order of the lines.

    Raises:
        BankFileNotFoundError: There is no such file.
        FileFormatError: A line is not six numbers or more, or a frame or id is not whole.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"there is no file {path}"
        raise BankFileNotFoundError(msg)
    try:
        text = path.read_text()
    except UnicodeDecodeError as error:
        msg = f"{path} is no text; expected lines of frame, id, left, top, width, height, ..."
        raise FileFormatError(msg) from error
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        try:
            values = [float(word) for word in words[:7]]
        except ValueError:
            values = []
        if len(values) < 6 or not (values[0].is_integer() and values[1].is_integer()):
            msg = f"{path}, line {number}: {line[:60]!r} is not frame, id, left, top, width, height, ..."
            raise FileFormatError(msg)
        rows.append((*values[:6], values[6] if len(values) > 6 else 1.0))
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    boxes = np.concatenate([table[:, 2:4], table[:, 2:4] + table[:, 4:6]], axis=1)
    return MotRows(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), boxes, table[:, 6])


def write_mot(
    path: str | Path,
    frames: np.ndarray,
    identities: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray | None = None,
) -> None:
    """Write a MOT text of results, in order of frames; boxes without an identity (negative) are left out.

    Args:
        path: The file, which is replaced as a whole. Its folder must exist.
        frames: ``(n,)`` integers, from 1 on.
        identities: ``(n,)`` integers.
        boxes: ``(n, 4)`` as x1 y1 x2 y2.
        scores: ``(n,)``; None writes 1.

    Raises:
        BankValueError: The shapes do not fit.
        BankFileNotFoundError: The folder does not exist.

    Example:
        >>> import tempfile, numpy as np
        >>> from torchbank.tracking import read_mot, write_mot
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_mot(f"{folder}/a.txt", np.array([1]), np.array([7]), np.array([[10.0, 20.0, 30.0, 60.0]]))
        ...     read_mot(f"{folder}/a.txt").boxes.tolist()
        [[10.0, 20.0, 30.0, 60.0]]
    """
    moments = as_integers("frames", frames)
    owners = as_integers("identities", identities, len(moments))
    places = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    given = np.ones(len(moments)) if scores is None else np.asarray(scores, dtype=np.float64)
    if len(places) != len(moments) or given.shape != moments.shape:
        msg = f"there are {len(moments)} frames, {len(places)} boxes and {given.size} scores; expected one each"
        raise BankValueError(msg)
    lines = []
    for row in np.lexsort((owners, moments)).tolist():
        if owners[row] < 0:
            continue
        left, top, right, bottom = places[row].tolist()
        lines.append(
            f"{moments[row]},{owners[row]},{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f},"
            f"{given[row]:.4f},-1,-1,-1\n"
        )
    atomic_write(path, "".join(lines).encode())
