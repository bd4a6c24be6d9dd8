"""What a tracker and an embedder make of one video, in columns: from files, or by running them.

Axes: n (boxes, in order of frames).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.numpy import load_file

from torchbank.data import VideoFacts, read_video, video_facts
from torchbank.errors import BankFileNotFoundError, BankTypeError, BankValueError, FileFormatError
from torchbank.tracking._byte_track import ByteTrack
from torchbank.tracking._detectors import Detector
from torchbank.tracking._embedders import Embedder
from torchbank.tracking.mot import read_mot

__all__ = ["Footage", "observe", "read_detections"]


@dataclass(frozen=True)
class Footage:
    """The boxes of one source.

    Attributes:
        frames: ``(n,)`` ascending, from 1 on.
        boxes: ``(n, 4)`` x1, y1, x2, y2.
        scores: ``(n,)``.
        classes: ``(n,)``.
        track_ids: ``(n,)``; -1 is none.
        embeddings: ``(n, dim)`` float32; a row that is not finite is no evidence.
        length: Frames that were looked at.
        whole: Whether these are all; False where Ctrl-C ended it.
    """

    frames: Int[np.ndarray, " n"]
    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    classes: Int[np.ndarray, " n"]
    track_ids: Int[np.ndarray, " n"]
    embeddings: Float[np.ndarray, "n dim"]
    length: int
    whole: bool = True

    def of_frame(self, frame: int) -> slice:
        """The rows of a frame."""
        return slice(*np.searchsorted(self.frames, [frame, frame + 1]).tolist())


def read_detections(path: str | Path, embeddings: str | Path | None = None) -> Footage:
    """Read boxes from a MOT text, and the embedding of each line.

    Args:
        path: ``frame, id, left, top, width, height, score`` a line, the id -1 for a box without a track.
        embeddings: ``(lines, dim)`` in a ``.npy``, ``.npz`` or ``.safetensors`` file; None is no evidence at all.

    Raises:
        BankFileNotFoundError: There is no such file.
        FileFormatError: A file cannot be read.
        BankTypeError: The embeddings are not floating.
        BankValueError: Their number is not that of the lines, a frame is below 1, a box is not finite or is inside
            out, or a frame has a track twice.
    """
    frames, track_ids, boxes, scores = read_mot(path)
    if not len(frames):
        msg = f"{path} has no line; expected frame, id, left, top, width, height, score"
        raise FileFormatError(msg)
    rows = np.full((len(frames), 1), np.nan, np.float32) if embeddings is None else _read_embeddings(Path(embeddings))
    if len(rows) != len(frames):
        msg = f"{embeddings} has {len(rows)} rows and {path} {len(frames)} lines; expected one embedding for each line"
        raise BankValueError(msg)
    _check_boxes(path, frames, track_ids, boxes)
    order = np.argsort(frames, kind="stable")
    return Footage(
        frames=frames[order],
        boxes=boxes[order],
        scores=scores[order],
        classes=np.zeros(len(frames), dtype=np.int64),
        track_ids=track_ids[order],
        embeddings=rows[order].astype(np.float32),
        length=int(frames.max()),
    )


def _check_boxes(path: str | Path, frames: np.ndarray, track_ids: np.ndarray, boxes: np.ndarray) -> None:
    if frames.min() < 1:
        msg = f"{path}, line {int(frames.argmin()) + 1}: frame {frames.min()}; expected frames from 1 on"
        raise BankValueError(msg)
    bad = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
    if bad.any():
        line = int(bad.argmax())
        msg = f"{path}, line {line + 1}: the box has no area; expected finite numbers, width and height above 0"
        raise BankValueError(msg)
    tracked = np.flatnonzero(track_ids >= 0)
    order = tracked[np.lexsort((track_ids[tracked], frames[tracked]))]
    twice = (np.diff(frames[order]) == 0) & (np.diff(track_ids[order]) == 0)
    if twice.any():
        line = int(order[twice.argmax() + 1])
        msg = f"{path}, line {line + 1}: track {track_ids[line]} is twice in frame {frames[line]}; expected it once"
        raise BankValueError(msg)


def _read_embeddings(path: Path) -> np.ndarray:
    if not path.is_file():
        msg = f"there is no file {path}"
        raise BankFileNotFoundError(msg)
    try:
        match path.suffix:
            case ".npy":
                arrays = {"": np.load(path)}
            case ".npz":
                with np.load(path) as archive:
                    arrays = dict(archive)
            case ".safetensors":
                arrays = load_file(path)
            case other:
                msg = f"{path} ends in {other!r}; expected embeddings in .npy, .npz or .safetensors"
                raise FileFormatError(msg)
    except (ValueError, OSError, EOFError, SafetensorError) as error:
        if isinstance(error, FileFormatError):
            raise
        msg = f"{path} is truncated or not a {path.suffix} file of numbers"
        raise FileFormatError(msg) from error
    name = (
        "embeddings" if "embeddings" in arrays else "embedding" if "embedding" in arrays else next(iter(arrays), None)
    )
    if name is None or (len(arrays) > 1 and not name.startswith("embedding")):
        msg = f"{path} holds {sorted(arrays)}; expected one array, or one that is named embeddings"
        raise FileFormatError(msg)
    rows = arrays[name]
    if rows.dtype.kind != "f" or rows.ndim != 2:
        msg = f"{path} holds {rows.dtype} of shape {rows.shape}; expected floating numbers (lines, dim)"
        raise BankTypeError(msg)
    return rows


@dataclass
class _Rows:
    """Columns that grow, a frame at a time."""

    parts: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    length: int = 0

    def footage(self) -> Footage:
        # A frame whose boxes all lie outside the picture has no embedding to tell their length by.
        dims = {part[-1].shape[1] for part in self.parts if part[-1].shape[1] > 1} or {1}
        for place, part in enumerate(self.parts):
            if part[-1].shape[1] not in dims:
                self.parts[place] = (*part[:-1], np.full((len(part[0]), max(dims)), np.nan, np.float32))
        empty = (*(np.zeros(0),) * 5, np.zeros((0, max(dims)), np.float32))
        frames, boxes, scores, classes, track_ids, embeddings = (
            np.concatenate(column) for column in zip(*(self.parts or [empty]), strict=True)
        )
        whole = (column.astype(np.int64) for column in (frames, classes, track_ids))
        frames, classes, track_ids = whole
        boxes, scores = boxes.reshape(-1, 4).astype(np.float64), scores.astype(np.float64)
        return Footage(frames, boxes, scores, classes, track_ids, embeddings.astype(np.float32), self.length)


def observe(
    *,
    video: str | Path | None,
    detections: Footage | None,
    detector: Detector | None,
    embedder: Embedder | None,
    tracker: ByteTrack,
    on_frame: Callable[[int, int], None] = lambda *_: None,
) -> Footage:
    """Go through a source: detect and embed where that is asked for, and track boxes that have no track ids.

    Ctrl-C ends it early; what was seen till then is returned.

    Args:
        video: The file; needed for a detector or an embedder.
        detections: Boxes from a file, in place of a detector.
        detector: Finds the boxes.
        embedder: Embeds them, in place of embeddings from a file.
        tracker: Joins boxes without track ids.
        on_frame: Told how many frames are done, and how many there are about.

    Raises:
        BankValueError: A box of the file lies outside the picture, so that it belongs to another video.
        FileFormatError: The video is damaged.
    """
    facts = None if video is None else video_facts(video)
    if detections is not None and facts is not None:
        _check_inside(detections, facts)
    rows = _Rows()
    needs_pictures = detector is not None or embedder is not None
    total = detections.length if detections is not None and not needs_pictures else facts.frames if facts else 0
    pictures = read_video(video) if needs_pictures and video is not None else None
    frame, whole = 0, True
    try:
        while pictures is not None or frame < total:
            image = None if pictures is None else next(pictures, None)
            if pictures is not None and image is None:
                break
            frame += 1
            _observe_frame(rows, frame, image, detections, detector, embedder, tracker)
            on_frame(frame, max(total, frame))
    except KeyboardInterrupt:
        # What is done is worth keeping; a second Ctrl-C ends the command.
        whole = False
    return replace(rows.footage(), whole=whole)


def _observe_frame(
    rows: _Rows,
    frame: int,
    image: np.ndarray | None,
    detections: Footage | None,
    detector: Detector | None,
    embedder: Embedder | None,
    tracker: ByteTrack,
) -> None:
    embeddings = None
    if detections is not None:
        part = detections.of_frame(frame)
        columns = (detections.boxes, detections.scores, detections.classes, detections.track_ids, detections.embeddings)
        boxes, scores, classes, track_ids, embeddings = (column[part] for column in columns)
    elif detector is not None and image is not None:
        boxes, scores, classes = detector(image)
        track_ids = np.full(len(boxes), -1, dtype=np.int64)
    else:
        msg = "there is nothing to find boxes with; give detections or a detector"
        raise BankValueError(msg)
    if detections is None or not (detections.track_ids >= 0).any():
        track_ids = tracker.update(boxes, scores, classes)
    if embedder is not None and image is not None:
        embeddings = embedder(image, boxes)
    if embeddings is None:
        embeddings = np.full((len(boxes), 1), np.nan, np.float32)
    rows.length = frame
    if len(boxes):
        rows.parts.append((np.full(len(boxes), frame), boxes, scores, classes, track_ids, embeddings))


def _check_inside(footage: Footage, facts: VideoFacts) -> None:
    boxes = footage.boxes
    outside = (boxes[:, :2] >= [facts.width, facts.height]).any(axis=1) | (boxes[:, 2:] <= 0).any(axis=1)
    if outside.any():
        row = int(outside.argmax())
        msg = (
            f"box {boxes[row].round(1).tolist()} of frame {footage.frames[row]} lies outside the picture of "
            f"{facts.width} x {facts.height} pixels; give the detections of this video, in its pixels"
        )
        raise BankValueError(msg)
