"""Who takes part: trackers with short and long buffers, and the tracker with a memory behind it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from torchbank.evaluation import Tracks
from torchbank.tracking import Calibration, IdentityGallery, IdentityLinker, Whitening, adapt_and_calibrate, calibrate
from torchbank.tracking._byte_track import ByteTrack

from .deep_sort import DeepSort
from .scenes import DIM, Kind, Scene, make

BUFFERS = (30, 300, 900)
DISTANCES = (0.1, 0.2, 0.3, 0.4)  # of DeepSORT; 0.2 is its default


@dataclass
class Output:
    """What a contestant says of each detection.

    Attributes:
        ids: ``(n,)`` what was said at the time; -1 is none.
        corrected: ``(n,)`` what is said of the past at the end; the same where nothing is corrected.
    """

    ids: np.ndarray
    corrected: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def tracks(self, scene: Scene, *, corrected: bool = False) -> Tracks:
        """The boxes that have an id."""
        ids = self.corrected if corrected else self.ids
        kept = ids > 0
        return Tracks(scene.frames[kept], ids[kept], scene.boxes[kept])


def byte_track(scene: Scene, buffer: int) -> Output:
    """The tracker alone."""
    tracker = ByteTrack(buffer=buffer)
    return Output(_each_frame(scene, lambda part: tracker.update(scene.boxes[part], scene.scores[part])))


def deep_sort(scene: Scene, max_age: int, distance: float) -> Output:
    """The appearance tracker alone."""
    tracker = DeepSort(max_age=max_age, distance=distance)
    return Output(
        _each_frame(scene, lambda part: tracker.update(scene.boxes[part], scene.scores[part], scene.embeddings[part]))
    )


def _each_frame(scene: Scene, ids_of: Callable[[slice], np.ndarray]) -> np.ndarray:
    ids = np.full(len(scene.frames), -1, dtype=np.int64)
    for frame in range(scene.kind.frames):
        part = scene.of_frame(frame)
        ids[part] = ids_of(part)
    return ids


def with_memory(
    scene: Scene,
    track_ids: np.ndarray,
    *,
    threshold: float | Calibration | None = None,
    adapt: Whitening | None = None,
) -> Output:
    """A linker behind a tracker's ids."""
    gallery = IdentityGallery(DIM if adapt is None else adapt.out, max_identities=1_000)
    linker = IdentityLinker(gallery, threshold=threshold, adapt=adapt, fps=30)
    ids = np.full(len(scene.frames), -1, dtype=np.int64)
    for frame, part in frames_with_tracks(scene):
        linked = linker.update(
            track_ids[part], scene.embeddings[part], boxes=scene.boxes[part], scores=scene.scores[part], frame=frame
        )
        ids[part] = linked.identities
    return Output(ids, corrected_ids(linker, track_ids, scene.frames))


def frames_with_tracks(scene: Scene) -> Iterator[tuple[int, slice]]:
    """Every frame; one without detections too, in which whoever was in view has left."""
    for frame in range(scene.kind.frames):
        yield frame, scene.of_frame(frame)


def corrected_ids(linker: IdentityLinker, track_ids: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The identity of each row as the linker knows it at the end."""
    ids = np.full(len(track_ids), -1, dtype=np.int64)
    for (_, track), spans in linker.corrected().items():
        for span in spans:
            ids[(track_ids == track) & (frames >= span.first_frame) & (frames <= span.last_frame)] = span.identity
    return ids


def held_out_calibration(
    kind: Kind, seeds: tuple[int, ...], *, whiten: bool = False
) -> tuple[Calibration, Whitening | None]:
    """The threshold, and the whitening if asked for, from other scenes of the same kind, without labels."""
    scenes = [make(kind, seed) for seed in seeds]
    ids = [byte_track(scene, 30).ids for scene in scenes]
    # Scenes one after the other; ids of two scenes differ.
    frames = np.concatenate([scene.frames + place * (kind.frames + 1) for place, scene in enumerate(scenes)])
    tracks = np.concatenate([np.where(some > 0, some + 10**6 * place, -1) for place, some in enumerate(ids)])
    embeddings = np.concatenate([scene.embeddings for scene in scenes])
    if whiten:
        adapt, found = adapt_and_calibrate(tracks, frames, embeddings, gallery_size=kind.people)
        return found, adapt
    return calibrate(tracks, frames, embeddings, gallery_size=kind.people), None
