"""`torchbank track`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from torchbank.cli._arguments import parse
from torchbank.cli._progress import progress_bar
from torchbank.cli._tables import print_paths, print_rows
from torchbank.cli._track_plan import Plan
from torchbank.cli._track_run import track_videos

_DESCRIPTION = """Give the objects in videos identities that last: whoever returns gets the old one back.

Boxes, track ids and embeddings of your own, with or without the video:
  torchbank track --video hall.mp4 --detections hall.txt --embeddings hall.npy

A detector, ByteTrack and an embedder:
  torchbank track --video hall.mp4 --detector ultralytics:yolo26n --classes 0 --embedder torchscript:reid.pt

Two cameras with one gallery, which the next run goes on with:
  torchbank track --video cam1=a.mp4 cam2=b.mp4 --start cam1=0 cam2=12.5 --gallery people.safetensors ..."""

Named = Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME=]FILE ...")]


@dataclass(frozen=True)
class _Arguments:
    """What is looked at, and who is known.

    Args:
        video: Videos, in the order of time.
        detections: MOT texts: frame, id (-1 for none), left, top, width, height, score.
        embeddings: One row for each line of the detections: .npy, .npz or .safetensors.
        detector: In place of detections: ultralytics:MODEL.
        embedder: In place of embeddings: torchscript:FILE, onnx:FILE, ultralytics or ultralytics:MODEL.
        classes: Which classes the detector looks for; by default all.
        run: The folder to write; by default runs/track.
        gallery: Who is known from the last video; written back. A new file begins a new gallery.
        start: Seconds at which each video begins, on one clock. By default one follows the other.
        overlapping: Pairs of sources whose views overlap.
        travel_time: Seconds that the way between two sources takes at least.
        fps: Frames per second where there is no video to tell.
        threshold: The least cosine of a match; by default found from the tracks that are in view at once.
        false_merge_rate: Share of new objects that may be taken for known ones, which the threshold is found for.
        adapt: Whether embeddings are whitened by the scatter within the tracks of these videos.
        max_identities: Seats of a new gallery.
        samples_per_identity: Samples of each identity in a new gallery.
        retention: Seconds after which a new gallery forgets whoever it has not seen.
        buffer: Frames for which ByteTrack keeps a track that is out of sight.
        high_score: Detections of a higher score begin tracks.
    """

    video: Named = ()
    detections: Named = ()
    embeddings: Named = ()
    detector: str | None = None
    embedder: str | None = None
    classes: tuple[int, ...] = ()
    run: Path = Path("runs/track")
    gallery: Path | None = None
    start: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=SECONDS ...")] = ()
    overlapping: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME,NAME ...")] = ()
    travel_time: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME,NAME=SECONDS ...")] = ()
    fps: float = 30.0
    threshold: float | None = None
    false_merge_rate: float = 0.01
    adapt: Literal["none", "whiten"] = "none"
    max_identities: int = 1000
    samples_per_identity: int = 8
    retention: float | None = None
    buffer: int = 30
    high_score: float = 0.6


def run(words: Sequence[str]) -> None:
    """Parse, track, tell."""
    arguments = parse(_Arguments, words, prog="torchbank track", description=_DESCRIPTION)
    result = track_videos(Plan(**vars(arguments)), progress_bar=progress_bar)
    print_rows(
        "identities" if result.whole else "identities, stopped early",
        ("source", "frames", "boxes", "tracks", "identities", "of them known before"),
        result.table,
    )
    print(result.threshold)
    print_paths("written", result.files)
