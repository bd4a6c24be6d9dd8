"""Behind the trackers people use: each adapter takes a tracker's own result and gives it back with stable ids.

They know public call signatures only and import none of these packages:

====================  ========================================================================================
Ultralytics 8.4       ``Results`` of ``model.track``: ``boxes.data`` is x1 y1 x2 y2 id conf cls; ``result.update``
supervision 0.31      ``Detections``: ``xyxy``, ``confidence``, ``class_id``, ``tracker_id``, ``data``
trackers 2.6          ``tracker.update(detections)`` gives such ``Detections``, -1 for a box without a track
boxmot 25             rows x1 y1 x2 y2 id conf cls ind, where ind is the row of the detection
MOTChallenge          text, one box a line: see `torchbank.tracking.read_mot`
====================  ========================================================================================
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from torchbank.errors import BankKeyError, BankValueError
from torchbank.tracking._doors import as_integers, as_matrix

if TYPE_CHECKING:
    from torchbank.tracking.linker import Linked

Embedder = Callable[[Any, np.ndarray], np.ndarray | Tensor]
"""``embedder(image, boxes) -> (n, dim)`` for an image as the tracker has it and boxes as x1 y1 x2 y2 in pixels."""

LARGEST_FLOAT32 = 2**24


class Adapters(ABC):
    """The part of `IdentityLinker` that speaks to trackers."""

    embedder: Embedder | None

    @abstractmethod
    def update(
        self, track_ids: Any, embeddings: Any, *, boxes: Any = None, scores: Any = None, classes: Any = None,
        frame: int | None = None, time: float | None = None, source: str = "default",
    ) -> "Linked":  # fmt: skip
        """See `IdentityLinker.update`."""

    def ultralytics(
        self,
        result: Any,
        *,
        source: str = "default",
        embeddings: np.ndarray | Tensor | None = None,
        frame: int | None = None,
        time: float | None = None,
    ) -> Any:
        """Put identities in the place of the track ids of an Ultralytics ``Results``.

        Without ``embeddings`` the linker's ``embedder`` makes them from ``result.orig_img`` and the boxes; without
        either there is no evidence, and every track is an identity.

        Args:
            result: Of ``model.track``. It is changed in place.
            source: Which camera or video.
            embeddings: ``(n, dim)`` for its boxes.
            frame: As for `IdentityLinker.update`.
            time: As for `IdentityLinker.update`.

        Returns:
            ``result`` itself.

        Raises:
            BankValueError: A shape does not fit, or an identity is larger than float32 holds exactly.
        """
        oriented = result.obb is not None
        found = result.obb if oriented else result.boxes
        if found is None or found.id is None:
            self.update([], None, frame=frame, time=time, source=source)
            return result
        boxes = _array(found.xyxy)
        if embeddings is None and self.embedder is not None:
            embeddings = self.embedder(result.orig_img, boxes)
        linked = self.update(
            _array(found.id),
            embeddings,
            boxes=boxes,
            scores=_array(found.conf),
            classes=_array(found.cls),
            frame=frame,
            time=time,
            source=source,
        )
        data = _with_column(found.data, -3, linked.identities)
        result.update(**{"obb" if oriented else "boxes": data})
        return result

    def ultralytics_tracker(self, tracker: Any, *, source: str = "default") -> "LinkedTracker":
        """Wrap one of Ultralytics' trackers, for its own embeddings.

        ``predictor.trackers[0] = linker.ultralytics_tracker(predictor.trackers[0])`` links by the vectors that
        Ultralytics hands to its trackers (``feats``), in the order of the detections.

        Args:
            tracker: With ``update(detections, image, feats=...)``, which gives rows that end in id, score, class and
                the row of the detection.
            source: Which camera or video.
        """
        return LinkedTracker(self, tracker, source)

    def supervision(
        self,
        detections: Any,
        *,
        source: str = "default",
        embeddings: np.ndarray | Tensor | None = None,
        frame: int | None = None,
        time: float | None = None,
    ) -> Any:
        """Put identities in the place of the tracker ids of a ``supervision.Detections``, also of roboflow trackers.

        The tracker's own ids are kept under ``data["raw_tracker_id"]``.

        Args:
            detections: With ``tracker_id``. They are changed in place.
            source: Which camera or video.
            embeddings: ``(n, dim)``; None takes ``data["embedding"]``.
            frame: As for `IdentityLinker.update`.
            time: As for `IdentityLinker.update`.

        Returns:
            ``detections`` itself.

        Raises:
            BankValueError: There are detections without ``tracker_id``, or a shape does not fit.
            BankKeyError: There are no embeddings.
        """
        count = len(detections.xyxy)
        if detections.tracker_id is None:
            if count:
                msg = "the detections have no tracker_id; give what the tracker made of them"
                raise BankValueError(msg)
            self.update([], None, frame=frame, time=time, source=source)
            return detections
        if embeddings is None:
            if "embedding" not in detections.data:
                msg = "there are no embeddings; put them under detections.data['embedding'], or give embeddings="
                raise BankKeyError(msg)
            embeddings = np.asarray(detections.data["embedding"])
        raw = np.asarray(detections.tracker_id)
        linked = self.update(
            raw,
            embeddings,
            boxes=detections.xyxy,
            scores=detections.confidence,
            classes=detections.class_id,
            frame=frame,
            time=time,
            source=source,
        )
        detections.data["raw_tracker_id"] = raw.copy()
        detections.tracker_id = linked.identities
        return detections

    def boxmot(
        self,
        tracks: np.ndarray,
        embeddings: np.ndarray | Tensor | None,
        *,
        source: str = "default",
        frame: int | None = None,
        time: float | None = None,
    ) -> np.ndarray:
        """Put identities in the place of the ids of boxmot's rows.

        Args:
            tracks: ``(m, 8)`` as x1 y1 x2 y2 id conf cls ind.
            embeddings: ``(detections, dim)``, of all detections that the tracker was given; ``ind`` picks the rows.
                A track without a detection in this frame (ind -1) has no evidence.
            source: Which camera or video.
            frame: As for `IdentityLinker.update`.
            time: As for `IdentityLinker.update`.

        Returns:
            A copy of ``tracks`` with identities in column 4.

        Raises:
            BankValueError: The rows do not have 8 columns, or point to a detection that is not there.
        """
        rows = np.asarray(tracks, dtype=np.float64)
        rows = rows.reshape(0, 8) if rows.size == 0 else rows
        if rows.ndim != 2 or rows.shape[1] != 8:
            msg = f"tracks have shape {rows.shape}; expected (m, 8) as x1 y1 x2 y2 id conf cls ind"
            raise BankValueError(msg)
        linked = self.update(
            rows[:, 4],
            None if embeddings is None else _picked(embeddings, rows[:, 7]),
            boxes=rows[:, :4],
            scores=rows[:, 5],
            classes=rows[:, 6],
            frame=frame,
            time=time,
            source=source,
        )
        changed = rows.copy()
        changed[:, 4] = linked.identities
        return changed

    def link_all(
        self,
        frames: np.ndarray,
        track_ids: np.ndarray,
        embeddings: np.ndarray | Tensor | None,
        *,
        boxes: np.ndarray | None = None,
        scores: np.ndarray | None = None,
        classes: np.ndarray | None = None,
        source: str = "default",
    ) -> np.ndarray:
        """Link a whole video that is there as columns, such as those of `torchbank.tracking.read_mot`.

        Frames are taken in order, and those between the first and the last without a row are passed through as well.

        Args:
            frames: ``(rows,)`` int64, in any order.
            track_ids: ``(rows,)``.
            embeddings: ``(rows, dim)``, or None.
            boxes: ``(rows, 4)`` as x1 y1 x2 y2.
            scores: ``(rows,)``.
            classes: ``(rows,)``.
            source: Which camera or video.

        Returns:
            ``(rows,)`` int64 identities as they were known in their frame; for those known now see
            `IdentityLinker.corrected`.

        Raises:
            BankValueError: A shape does not fit.
        """
        moments = as_integers("frames", frames)
        ids = as_integers("track_ids", track_ids, len(moments))
        vectors = None if embeddings is None else as_matrix(embeddings)
        columns = {"boxes": boxes, "scores": scores, "classes": classes}
        columns = {name: np.asarray(column) for name, column in columns.items() if column is not None}
        identities = np.full(len(moments), -1, dtype=np.int64)
        order = np.argsort(moments, kind="stable")
        if not len(order):
            return identities
        first, last = int(moments[order[0]]), int(moments[order[-1]])
        ends = np.searchsorted(moments[order], np.arange(first, last + 2))
        for frame in range(first, last + 1):
            rows = order[ends[frame - first] : ends[frame - first + 1]]
            given: dict[str, Any] = {name: column[rows] for name, column in columns.items()}
            seen = None if vectors is None else vectors[rows]
            identities[rows] = self.update(ids[rows], seen, frame=frame, source=source, **given).identities
        return identities


class LinkedTracker:
    """An Ultralytics tracker whose ids are identities; see `IdentityLinker.ultralytics_tracker`.

    Everything but ``update`` is the tracker's own.
    """

    def __init__(self, linker: Adapters, tracker: Any, source: str) -> None:
        self.linker = linker
        self.tracker = tracker
        self.source = source

    def update(self, detections: Any, image: Any = None, feats: Any = None, **arguments: Any) -> np.ndarray:
        """Track, then link."""
        rows = np.asarray(self.tracker.update(detections, image, feats=feats, **arguments))
        if rows.size == 0:
            self.linker.update([], None, source=self.source)
            return rows
        embeddings = None if feats is None else _picked(feats, rows[:, -1])
        # Oriented boxes have five columns of place, of which no overlap is known here.
        boxes = rows[:, :4] if rows.shape[1] == 8 else None
        linked = self.linker.update(
            rows[:, -4], embeddings, boxes=boxes, scores=rows[:, -3], classes=rows[:, -2], source=self.source
        )
        return _with_column(rows, -4, linked.identities)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tracker, name)


def _picked(embeddings: np.ndarray | Tensor, index: np.ndarray) -> np.ndarray:
    """The embedding of each track's detection; NaN for a track without one."""
    vectors = as_matrix(embeddings)
    rows = as_integers("detection indices", index)
    if len(rows) and rows.max() >= len(vectors):
        msg = f"a track points to detection {rows.max()} and there are {len(vectors)} embeddings; give one for each"
        raise BankValueError(msg)
    picked = np.full((len(rows), vectors.shape[1]), np.nan, dtype=np.float32)
    picked[rows >= 0] = vectors[rows[rows >= 0]]
    return picked


def _with_column(rows: Any, column: int, identities: np.ndarray) -> Any:
    """A copy of rows, an array or a tensor, with one column replaced."""
    if len(identities) and identities.max() > LARGEST_FLOAT32 and str(rows.dtype).endswith("float32"):
        msg = f"identity {identities.max()} is not exact in float32, in which this tracker keeps ids; use update itself"
        raise BankValueError(msg)
    if isinstance(rows, Tensor):
        changed = rows.clone()
        changed[:, column] = changed.new_tensor(identities)
        return changed
    copied = rows.copy()
    copied[:, column] = identities
    return copied


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
