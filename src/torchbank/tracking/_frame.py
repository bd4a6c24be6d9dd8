"""One frame: as a tracker gives it, checked and brought into one form, and as the linker gives it back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from torchbank.errors import BankValueError
from torchbank.tracking._doors import as_integers, as_matrix, unit, usable

Column = Sequence[float] | np.ndarray | Tensor
"""One value for each box, as a list, an array or a tensor."""

Boxes = Sequence[Sequence[float]] | np.ndarray | Tensor
"""``(n, 4)`` as x1 y1 x2 y2 in pixels."""


class Frame(NamedTuple):
    """The boxes of one frame that have a track.

    Attributes:
        given: How many boxes there were.
        rows: ``(n,)`` which of them have a track.
        tracks: ``(n,)`` int64 track ids.
        embeddings: ``(n, dim)`` float32 of length 1, without meaning where ``evidence`` is False.
        evidence: ``(n,)`` bool, which boxes are worth looking at.
        scores: ``(n,)`` float64.
        labels: ``(n,)`` int64, -1 for none.
    """

    given: int
    rows: np.ndarray
    tracks: np.ndarray
    embeddings: np.ndarray
    evidence: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Linked:
    """The identities of one frame; an array of them in NumPy's eyes.

    Attributes:
        identities: ``(n,)`` int64, one for each track id that was given; -1 for a box without a track.
        final: ``(n,)`` bool, False while a track is still being looked at: its number is then one of its own, which
            it keeps if it turns out to be new.
    """

    identities: np.ndarray
    final: np.ndarray

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.identities, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.identities)

    def __getitem__(self, index: Any) -> Any:
        return self.identities[index]

    def tolist(self) -> list[int]:
        """The identities as ints."""
        return self.identities.tolist()


class Quality(NamedTuple):
    """Which boxes are evidence.

    Attributes:
        min_score: The least detection score.
        min_height: The least height of a box, in pixels.
        max_overlap: The largest share of a box that one other box may cover.
    """

    min_score: float
    min_height: float
    max_overlap: float


def read_frame(
    track_ids: Column,
    embeddings: np.ndarray | Tensor | None,
    boxes: Boxes | None,
    scores: Column | None,
    classes: Column | None,
    *,
    dim: int,
    quality: Quality,
) -> Frame:
    """Check what a tracker gave.

    Raises:
        BankValueError: Shapes do not fit, or a track is there twice.
        BankTypeError: The embeddings are not floating.
    """
    ids = as_integers("track_ids", track_ids)
    given = len(ids)
    rows = np.flatnonzero(ids >= 0)
    tracks = ids[rows]
    if len(np.unique(tracks)) < len(tracks):
        values, counts = np.unique(tracks, return_counts=True)
        msg = f"track {values[counts.argmax()]} is in one frame {counts.max()} times; a track has one box in a frame"
        raise BankValueError(msg)
    labels = np.full(given, -1) if classes is None else as_integers("classes", classes, given)
    measured = np.ones(given) if scores is None else _column("scores", scores, (given,))
    if embeddings is None or (given == 0 and np.size(embeddings) == 0):
        vectors = np.zeros((given, dim), dtype=np.float32)
    else:
        vectors = as_matrix(embeddings, dim)
        if len(vectors) != given:
            msg = f"there are {len(vectors)} embeddings for {given} track ids; give NaN in the place of a missing one"
            raise BankValueError(msg)
    evidence = usable(vectors) & (measured >= quality.min_score)
    if boxes is not None:
        evidence &= _good_boxes(_column("boxes", boxes, (given, 4)), quality)
    return Frame(given, rows, tracks, unit(vectors[rows]), evidence[rows], measured[rows], labels[rows])


def _column(what: str, values: Column | Boxes, shape: tuple[int, ...]) -> np.ndarray:
    column = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    column = column.astype(np.float64).reshape(shape) if column.size == 0 == np.prod(shape) else column
    if column.shape != shape:
        msg = f"{what} have shape {column.shape}; expected {shape}, one for each track id"
        raise BankValueError(msg)
    return column.astype(np.float64)


def _good_boxes(boxes: np.ndarray, quality: Quality) -> np.ndarray:
    """Boxes that have an area in the image, are large enough, and are not covered by another."""
    size = boxes[:, 2:] - boxes[:, :2]
    finite = np.isfinite(boxes).all(axis=1)
    good = finite & (size > 0).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1) & (size[:, 1] >= quality.min_height)
    if quality.max_overlap < 1 and len(boxes) > 1:
        sound = np.where(good[:, None], boxes, 0)
        low = np.maximum(sound[:, None, :2], sound[None, :, :2])
        shared = (np.minimum(sound[:, None, 2:], sound[None, :, 2:]) - low).clip(min=0).prod(axis=2)
        np.fill_diagonal(shared, 0)
        area = np.where(good, size.prod(axis=1), 1)
        good &= shared.max(axis=1) <= quality.max_overlap * area
    return good
