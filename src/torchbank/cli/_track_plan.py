"""What `torchbank track` is told, and the sources that it names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchbank import tracking
from torchbank.cli._errors import UsageError
from torchbank.tracking import Footage


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
    false_merge_rate: float
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
class Source:
    """One video, or one file of detections.

    Attributes:
        name: As the user calls it.
        video: The file, if there is one.
        detections: From a file, if there is one.
        fps: Frames per second.
    """

    name: str
    video: Path | None
    detections: Footage | None
    fps: float


def read_sources(plan: Plan) -> list[Source]:
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


def _source(plan: Plan, name: str, video: str | None, detections: str | None, embeddings: str | None) -> Source:
    footage = None if detections is None else tracking.read_detections(detections, embeddings)
    if video is None:
        return Source(name, None, footage, plan.fps)
    return Source(name, Path(video), footage, tracking.video_facts(video).fps)


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


def read_numbers(option: str, texts: Sequence[str]) -> dict[str, float]:
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


def read_pair(option: str, text: str, names: Sequence[str]) -> tuple[str, str]:
    first, _, second = text.partition(",")
    if first not in names or second not in names or first == second:
        msg = f"--{option} {text!r}: expected two of {', '.join(names)}, such as cam1,cam2"
        raise UsageError(msg)
    return first, second
