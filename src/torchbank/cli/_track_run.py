"""Videos to identities: look, link, write."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torchbank import report, tracking
from torchbank.cli._errors import UsageError
from torchbank.errors import BankFileNotFoundError
from torchbank.io import write_json
from torchbank.tracking import Appearances, Footage, IdentityGallery, IdentityLinker, Timed, Whitening
from torchbank.training import Progress, RunFolder

ProgressBar = Callable[[str], AbstractContextManager[Callable[[Progress], None]]]


@dataclass(frozen=True)
class Plan:
    """What `torchbank track` is told; its command line describes each."""

    video: tuple[str, ...]
    detections: tuple[str, ...]
    embeddings: tuple[str, ...]
    detector: str | None
    embedder: str | None
    classes: tuple[int, ...]
    run: Path
    gallery: Path | None
    start: tuple[str, ...]
    overlapping: tuple[str, ...]
    travel_time: tuple[str, ...]
    fps: float
    threshold: float | None
    adapt: str
    max_identities: int
    samples_per_identity: int
    retention: float | None
    buffer: int
    high_score: float

    def as_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}


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


@dataclass(frozen=True)
class _Source:
    name: str
    video: Path | None
    detections: Footage | None
    fps: float
    frames: int


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
    sources = _sources(plan)
    detector = None if plan.detector is None else tracking.build_detector(plan.detector, classes=plan.classes)
    embedder = None if plan.embedder is None else tracking.build_embedder(plan.embedder)
    fingerprint = None if embedder is None else embedder.fingerprint
    gallery = _known_gallery(plan, fingerprint)
    try:
        videos = []
        for source in sources:
            tracker = tracking.ByteTrack(buffer=plan.buffer, high_score=plan.high_score)
            with progress_bar(f"look at {source.name}") as move:
                footage = tracking.observe(
                    video=source.video,
                    detections=source.detections,
                    detector=detector,
                    embedder=embedder,
                    tracker=tracker,
                    on_frame=_mover(move),
                )
            videos.append(Timed(source.name, footage, source.fps))
            if footage.length < source.frames:
                # Ctrl-C: what was seen is linked and written, the rest is left.
                break
        whole = len(videos) == len(sources) and videos[-1].footage.length >= sources[-1].frames
        videos = tracking.one_after_the_other(videos, _starts(plan, videos))
        known = set() if gallery is None else set(gallery.identities.tolist())
        linker = _linker(plan, gallery, videos, fingerprint)
        gallery = linker.gallery
        with progress_bar("link") as move:
            at_the_time, corrected = tracking.link_footage(linker, videos, on_frame=_mover(move))
        RunFolder.create(plan.run, plan.as_json())
        files = _write(plan, linker, at_the_time, corrected)
        with progress_bar("draw") as move:
            files += _draw(plan, sources, linker, corrected, move)
        return TrackResult(_table(videos, corrected, known), _threshold_text(linker), files, whole)
    finally:
        if gallery is not None:
            gallery.close()


def _mover(move: Callable[[Progress], None]) -> Callable[[int, int], None]:
    return lambda done, total: move(Progress(done, total, {"frame": done}))


def _sources(plan: Plan) -> list[_Source]:
    """The sources, by the names of the videos or of the detections, in their order.

    Raises:
        UsageError: Names are twice or do not go together, or there is nothing to look at.
        BankError: A file is missing or cannot be read.
    """
    videos, detections, embeddings = (
        _named(option, getattr(plan, option)) for option in ("video", "detections", "embeddings")
    )
    names = list(videos or detections)
    if not names:
        msg = "there is nothing to look at; give --video, or --detections with --embeddings"
        raise UsageError(msg)
    if len(names) == 1:
        # One source needs no names.
        videos, detections, embeddings = (
            {names[0]: next(iter(given.values()))} if len(given) == 1 else given
            for given in (videos, detections, embeddings)
        )
    for option, given in (("detections", detections), ("embeddings", embeddings)):
        if given and set(given) != set(names):
            msg = f"--{option} names {', '.join(given)}; expected one for each of {', '.join(names)} (NAME=FILE)"
            raise UsageError(msg)
    for option, given, other in (
        ("detections", detections, plan.detector),
        ("embeddings", embeddings, plan.embedder),
    ):
        if bool(given) == (other is not None):
            does = {"detections": "detector", "embeddings": "embedder"}[option]
            msg = f"give either --{option} or --{does}" + (" with a --video" if given else "")
            raise UsageError(msg)
    if not videos and (plan.detector or plan.embedder):
        msg = "a detector or an embedder looks at pictures; give --video"
        raise UsageError(msg)
    if embeddings and plan.detector:
        msg = "--embeddings go with the lines of --detections, not with a detector; give --embedder"
        raise UsageError(msg)
    return [_source(plan, name, videos.get(name), detections.get(name), embeddings.get(name)) for name in names]


def _source(plan: Plan, name: str, video: str | None, detections: str | None, embeddings: str | None) -> _Source:
    footage = None if detections is None else tracking.read_detections(detections, embeddings)
    if video is None:
        return _Source(name, None, footage, plan.fps, 0 if footage is None else footage.length)
    facts = tracking.video_facts(video)
    needs_pictures = plan.detector is not None or plan.embedder is not None
    # The head of a video may err about its length; only files tell exactly what is missing.
    frames = footage.length if footage is not None and not needs_pictures else 0
    return _Source(name, Path(video), footage, facts.fps, frames)


def _named(option: str, texts: Sequence[str]) -> dict[str, str]:
    """``NAME=FILE`` or ``FILE``, which is named by its stem."""
    named: dict[str, str] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        name, file = (name, file) if equals else (Path(text).stem, text)
        if not name or not file or name in named:
            msg = f"--{option} {text!r}: expected NAME=FILE with a name of its own for each file"
            raise UsageError(msg)
        named[name] = file
    return named


def _starts(plan: Plan, videos: Sequence[Timed]) -> dict[str, float]:
    starts = _numbers("start", plan.start)
    # A run that was stopped has not come to its last videos.
    return {name: starts[name] for name in starts if name in {video.name for video in videos}} if starts else {}


def _numbers(option: str, texts: Sequence[str]) -> dict[str, float]:
    numbers = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            numbers[name] = float(number)
        except ValueError:
            name = ""
        if not name:
            msg = f"--{option} {text!r}: expected a name, = and a number of seconds"
            raise UsageError(msg)
    return numbers


def _pair(option: str, text: str, names: Sequence[str]) -> tuple[str, str]:
    first, _, second = text.partition(",")
    if first not in names or second not in names or first == second:
        msg = f"--{option} {text!r}: expected two of {', '.join(names)}, such as cam1,cam2"
        raise UsageError(msg)
    return first, second


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
    dims = {video.footage.embeddings.shape[1] for video in videos} - {1} or {1}
    adapt = None
    if plan.adapt == "whiten" and (gallery is None or gallery.adaptation is None):
        adapt = _whitening(videos)
    if gallery is None:
        dim = max(dims) if adapt is None else adapt.out
        gallery = IdentityGallery(
            dim, plan.max_identities, plan.samples_per_identity, retention=plan.retention, fingerprint=fingerprint
        )
    return IdentityLinker(
        gallery,
        threshold=plan.threshold,
        adapt=adapt,
        overlapping=[_pair("overlapping", text, names) for text in plan.overlapping],
        travel_time={
            _pair("travel-time", pair, names): s for pair, s in _numbers("travel-time", plan.travel_time).items()
        },
        fingerprint=fingerprint,
    )


def _whitening(videos: Sequence[Timed]) -> Whitening:
    """From all tracks; ids of two sources are kept apart."""
    ids, rows, above = [], [], 0
    for video in videos:
        tracked = video.footage.track_ids >= 0
        ids.append(video.footage.track_ids[tracked] + above)
        rows.append(video.footage.embeddings[tracked])
        above = int(max((part.max() for part in ids if len(part)), default=0)) + 1
    return Whitening.fit(np.concatenate(ids), np.concatenate(rows))


def _write(plan: Plan, linker: IdentityLinker, at_the_time: Appearances, corrected: Appearances) -> list[Path]:
    files = []
    for ending, appearances in (("", corrected), ("-at-the-time", at_the_time)):
        for place, name in enumerate(appearances.names):
            rows = (appearances.sources == place) & (appearances.identities > 0)
            path = plan.run / f"{name}{ending}.txt"
            columns = (appearances.frames, appearances.identities, appearances.boxes, appearances.scores)
            tracking.write_mot(path, *(column[rows] for column in columns))
            files.append(path)
    content = {
        "sources": list(corrected.names),
        "identities": corrected.histories(),
        "decisions": [_as_json(decision._asdict()) for decision in linker.decisions],
    }
    write_json(plan.run / "identities.json", content)
    gallery = plan.run / "gallery.safetensors" if plan.gallery is None else plan.gallery
    linker.gallery.save(gallery)
    return [*files, plan.run / "identities.json", gallery]


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what JSON has no number for."""
    return {name: None if isinstance(v, float) and not np.isfinite(v) else v for name, v in values.items()}


def _draw(
    plan: Plan,
    sources: Sequence[_Source],
    linker: IdentityLinker,
    corrected: Appearances,
    move: Callable[[Progress], None],
) -> list[Path]:
    files: list[Path] = []
    if (corrected.identities > 0).any():
        files.append(plan.run / "timeline.png")
        report.plot_identity_timeline(corrected, files[-1])
    if linker.calibration is not None:
        files.append(plan.run / "calibration.png")
        report.plot_calibration(linker.calibration, files[-1])
    crops: dict[int, list[report.Crop]] = {}
    try:
        for place, source in enumerate(sources[: len(corrected.names)]):
            if source.video is not None:
                files.append(plan.run / f"{source.name}.mp4")
                looks = report.annotate_video(source.video, corrected, files[-1], source=place, on_frame=_mover(move))
                for identity, some in looks.items():
                    crops.setdefault(identity, []).extend(some)
        if crops:
            files.append(plan.run / "contact-sheets")
        for identity, looks in crops.items():
            report.plot_contact_sheet(looks, files[-1] / f"identity-{identity:05d}.png", identity=identity)
    except KeyboardInterrupt:
        # The video and the sheets so far are whole.
        pass
    return files


def _table(videos: Sequence[Timed], corrected: Appearances, known: set[int]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for place, video in enumerate(videos):
        there = set(corrected.identities[corrected.sources == place].tolist()) - {-1}
        ids = video.footage.track_ids
        numbers = (
            video.footage.length,
            len(ids),
            len(np.unique(ids[ids >= 0])),
            len(there),
            len(there & known),
        )
        rows.append((video.name, *(f"{number:,}" for number in numbers)))
    return rows


def _threshold_text(linker: IdentityLinker) -> str:
    calibration = linker.calibration
    if calibration is None:
        return "no threshold was found (too few tracks in view at once): nobody was given an old identity"
    if not np.isfinite(calibration.threshold):
        return "the embeddings do not tell people apart: nobody was given an old identity"
    return f"a match needs a cosine of {calibration.threshold:.2f} (from {calibration.track_pairs} pairs of tracks)"
