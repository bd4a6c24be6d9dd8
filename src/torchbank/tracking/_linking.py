"""Several videos through one linker, in the order of time."""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from torchbank.errors import BankValueError
from torchbank.tracking._appearances import Appearances
from torchbank.tracking._footage import Footage
from torchbank.tracking.linker import IdentityLinker, Span

__all__ = ["Timed", "as_one", "link_footage", "one_after_the_other"]


@dataclass(frozen=True)
class Timed:
    """Footage on a clock.

    Args:
        name: Of the source.
        footage: Its boxes.
        fps: Frames per second.
        start: Seconds on the common clock at its first frame.
    """

    name: str
    footage: Footage
    fps: float
    start: float = 0.0

    def seconds(self, frame: int) -> float:
        """The time of a frame."""
        return self.start + (frame - 1) / self.fps

    def moments(self, place: int) -> Iterator[tuple[float, int, int]]:
        """Time of each frame, a place that parts equal times, and the number of the frame."""
        return ((self.seconds(frame), place, frame) for frame in range(1, self.footage.length + 1))


def one_after_the_other(videos: Sequence[Timed], starts: Mapping[str, float]) -> list[Timed]:
    """Put videos on one clock: at the starts that are given, or each when the one before has ended.

    Raises:
        BankValueError: Some videos have a start and others none, or a start is of no video.
    """
    names = [video.name for video in videos]
    unknown = sorted(set(starts) - set(names))
    if unknown or (starts and len(starts) < len(names)):
        msg = f"starts are given for {', '.join(sorted(starts))}; expected one for each of {', '.join(names)}, or none"
        raise BankValueError(msg)
    if starts:
        return [replace(video, start=starts[video.name]) for video in videos]
    placed, clock = [], 0.0
    for video in videos:
        placed.append(replace(video, start=clock))
        clock = placed[-1].seconds(video.footage.length + 1)
    return placed


def as_one(videos: Sequence[Timed]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tracks of several videos as if of one, for `calibrate` and `Whitening.fit`: nobody is in two at once.

    Returns:
        ``(rows,)`` track ids, which differ between videos, ``(rows,)`` frames, and ``(rows, dim)`` embeddings. A video
        without embeddings is left out.
    """
    ids, frames, embeddings, above, after = [], [], [], 0, 0
    for video in videos:
        footage = video.footage
        tracked = (footage.track_ids >= 0) & (footage.embeddings.shape[1] > 1)
        if tracked.any():
            ids.append(footage.track_ids[tracked] + above)
            frames.append(footage.frames[tracked] + after)
            embeddings.append(footage.embeddings[tracked])
            above = int(ids[-1].max()) + 1
            after = int(frames[-1].max()) + 1
    if not ids:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 1), np.float32)
    return np.concatenate(ids), np.concatenate(frames), np.concatenate(embeddings)


def link_footage(
    linker: IdentityLinker,
    videos: Sequence[Timed],
    *,
    on_frame: Callable[[int, int], None] = lambda *_: None,
) -> tuple[Appearances, Appearances]:
    """Give every box its identity. Ctrl-C ends it early; what was done till then is returned.

    Args:
        linker: Made for the embeddings' length.
        videos: At least one, with different names.
        on_frame: Told how many frames are done, and how many there are.

    Returns:
        The boxes with the identities as they were known in their frame, and as they are known at the end.
    """
    identities = [np.full(len(video.footage.frames), -1, dtype=np.int64) for video in videos]
    total = sum(video.footage.length for video in videos)
    order = heapq.merge(*(video.moments(place) for place, video in enumerate(videos)))
    try:
        for done, (time, place, frame) in enumerate(order, start=1):
            identities[place][videos[place].footage.of_frame(frame)] = _link_frame(linker, videos[place], frame, time)
            on_frame(done, total)
    except KeyboardInterrupt:
        # As in `observe`.
        pass
    spans = linker.corrected()
    known_now = [_corrected(video, spans) for video in videos]
    return _appearances(videos, identities), _appearances(videos, known_now)


def _link_frame(linker: IdentityLinker, video: Timed, frame: int, time: float) -> np.ndarray:
    footage, part = video.footage, video.footage.of_frame(frame)
    linked = linker.update(
        footage.track_ids[part],
        footage.embeddings[part] if footage.embeddings.shape[1] > 1 else None,
        boxes=footage.boxes[part],
        scores=footage.scores[part],
        classes=footage.classes[part],
        frame=frame,
        time=time,
        source=video.name,
    )
    if frame == footage.length:
        linker.ended(video.name)
    return linked.identities


def _corrected(video: Timed, spans: Mapping[tuple[str, int], Sequence[Span]]) -> np.ndarray:
    frames, track_ids = video.footage.frames, video.footage.track_ids
    identities = np.full(len(frames), -1, dtype=np.int64)
    order = np.lexsort((frames, track_ids))
    tracks, starts = np.unique(track_ids[order], return_index=True)
    for track, rows in zip(tracks.tolist(), np.split(order, starts[1:]), strict=True):
        for span in spans.get((video.name, track), ()):
            first, last = np.searchsorted(frames[rows], [span.first_frame, span.last_frame + 1])
            identities[rows[first:last]] = span.identity
    return identities


def _appearances(videos: Sequence[Timed], identities: Sequence[np.ndarray]) -> Appearances:
    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(video.footage, name) for video in videos])

    frames = [video.footage.frames for video in videos]
    return Appearances(
        names=tuple(video.name for video in videos),
        sources=np.repeat(np.arange(len(videos)), [len(part) for part in frames]),
        frames=joined("frames"),
        times=np.concatenate(
            [video.start + (part - 1) / video.fps for video, part in zip(videos, frames, strict=True)]
        ),
        track_ids=joined("track_ids"),
        identities=np.concatenate(identities),
        boxes=joined("boxes"),
        scores=joined("scores"),
        classes=joined("classes"),
    )
