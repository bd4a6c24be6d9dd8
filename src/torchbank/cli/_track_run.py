"""Videos to identities: look, calibrate, link, write."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torchbank import tracking
from torchbank.cli._errors import UsageError
from torchbank.cli._track_output import draw_pictures, table, threshold_text, write_files
from torchbank.cli._track_plan import Plan, Source, read_numbers, read_pair, read_sources
from torchbank.errors import BankFileNotFoundError, BankStateError
from torchbank.tracking import Calibration, Detector, Embedder, IdentityGallery, IdentityLinker, Timed, Whitening
from torchbank.training import Progress, RunFolder

ProgressBar = Callable[[str], AbstractContextManager[Callable[[Progress], None]]]


@dataclass(frozen=True)
class TrackResult:
    """What came of it.

    Attributes:
        table: One row a source, of text.
        threshold: What decided, in words.
        files: What was written.
        whole: Whether all frames were looked at.
    """

    table: list[tuple[str, ...]]
    threshold: str
    files: list[Path]
    whole: bool


def track_videos(plan: Plan, *, progress_bar: ProgressBar) -> TrackResult:
    """Look at videos or files, link, and write everything into a run folder.

    Args:
        plan: What is asked for.
        progress_bar: Makes a progress callback for a title.

    Raises:
        BankError: Something that was asked for cannot be; then nothing has been written.
    """
    folder = RunFolder(plan.run)
    folder.check_free()
    sources = read_sources(plan)
    detector = None if plan.detector is None else tracking.build_detector(plan.detector, classes=plan.classes)
    embedder = None if plan.embedder is None else tracking.build_embedder(plan.embedder)
    fingerprint = None if embedder is None else embedder.fingerprint
    gallery = _known_gallery(plan, fingerprint)
    try:
        videos = _look(plan, sources, detector, embedder, progress_bar)
        known = set() if gallery is None else set(gallery.identities.tolist())
        linker = _linker(plan, gallery, videos, fingerprint)
        gallery = linker.gallery
        with progress_bar("link") as move:
            moved = _Mover(move)
            at_the_time, corrected = tracking.link_footage(linker, videos, on_frame=moved)
        whole = len(videos) == len(sources) and videos[-1].footage.whole and moved.done == moved.total
        RunFolder.create(plan.run, plan.as_json())
        files = write_files(plan.run, linker, at_the_time, corrected)
        files.append(plan.run / "gallery.safetensors" if plan.gallery is None else plan.gallery)
        gallery.save(files[-1])
        with progress_bar("draw") as move:
            files += draw_pictures(plan.run, sources, linker, corrected, _Mover(move))
        return TrackResult(table(videos, corrected, known), threshold_text(linker), files, whole)
    finally:
        if gallery is not None:
            gallery.close()


class _Mover:
    """Frames that are done, of how many, for a progress bar."""

    def __init__(self, move: Callable[[Progress], None]) -> None:
        self.move = move
        self.done = self.total = 0

    def __call__(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        self.move(Progress(done, total, {"frame": done}))


def _look(
    plan: Plan,
    sources: Sequence[Source],
    detector: Detector | None,
    embedder: Embedder | None,
    progress_bar: ProgressBar,
) -> list[Timed]:
    """What is seen in each source, on one clock. After Ctrl-C the rest is left."""
    videos = []
    for source in sources:
        with progress_bar(f"look at {source.name}") as move:
            footage = tracking.observe(
                video=source.video,
                detections=source.detections,
                detector=detector,
                embedder=embedder,
                tracker=tracking.ByteTrack(buffer=plan.buffer, high_score=plan.high_score),
                on_frame=_Mover(move),
            )
        videos.append(Timed(source.name, footage, source.fps))
        if not footage.whole:
            break
    return tracking.one_after_the_other(videos, _starts(plan, videos))


def _starts(plan: Plan, videos: Sequence[Timed]) -> dict[str, float]:
    starts = read_numbers("start", plan.start)
    # A run that was stopped has not come to its last videos.
    return {name: starts[name] for name in starts if name in {video.name for video in videos}} if starts else {}


def _known_gallery(plan: Plan, fingerprint: str | None) -> IdentityGallery | None:
    if plan.gallery is None:
        return None
    if not plan.gallery.parent.is_dir():
        msg = f"cannot write {plan.gallery}: the folder {plan.gallery.parent} does not exist; create it first"
        raise BankFileNotFoundError(msg)
    if not plan.gallery.exists():
        return None
    return IdentityGallery.load(plan.gallery, fingerprint=fingerprint)


def _linker(
    plan: Plan, gallery: IdentityGallery | None, videos: Sequence[Timed], fingerprint: str | None
) -> IdentityLinker:
    names = [video.name for video in videos]
    dims = {video.name: dim for video in videos if (dim := video.footage.embeddings.shape[1]) > 1}
    if len(set(dims.values())) > 1:
        msg = f"the embeddings are of different lengths ({dims}); make all of them with one embedder"
        raise UsageError(msg)
    adapt, found = _learn(plan, gallery, videos)
    if gallery is None:
        gallery = IdentityGallery(
            max(dims.values(), default=1),
            plan.max_identities,
            plan.samples_per_identity,
            retention=plan.retention,
            fingerprint=fingerprint,
        )
    pairs = read_numbers("travel-time", plan.travel_time)
    return IdentityLinker(
        gallery,
        threshold=found if plan.threshold is None else plan.threshold,
        adapt=adapt,
        overlapping=[read_pair("overlapping", text, names) for text in plan.overlapping],
        travel_time={read_pair("travel-time", pair, names): seconds for pair, seconds in pairs.items()},
        false_merge_rate=plan.false_merge_rate,
        fingerprint=fingerprint,
    )


def _learn(
    plan: Plan, gallery: IdentityGallery | None, videos: Sequence[Timed]
) -> tuple[Whitening | None, Calibration | None]:
    """What the tracks of these videos tell: a whitening where one is asked for, and the threshold.

    A gallery's own whitening stays, and so does its calibration if it is from more tracks.
    """
    tracks = tracking.as_one(videos)
    held = None if gallery is None else gallery.calibration
    adapt = None if gallery is None else gallery.adaptation
    asked = {
        "false_merge_rate": plan.false_merge_rate,
        "gallery_size": len(np.unique(tracks[0])) + (0 if gallery is None else len(gallery)) or 1,
        "samples_per_identity": plan.samples_per_identity if gallery is None else gallery.samples_per_identity,
    }
    fresh = plan.adapt == "whiten" and adapt is None
    try:
        if fresh:
            adapt, found = tracking.adapt_and_calibrate(*tracks, **asked)
        else:
            found = tracking.calibrate(*tracks, adapt=adapt, **asked)
    except BankStateError:
        # Too few tracks for a threshold; the linker goes on as the tracker alone, or with what the gallery knows.
        adapt = Whitening.fit(tracks[0], tracks[2]) if fresh else adapt
        return adapt, held
    return adapt, held if held is not None and held.track_pairs > found.track_pairs else found
