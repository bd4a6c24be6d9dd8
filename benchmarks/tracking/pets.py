"""The real clip PETS09-S2L1: detections and embeddings of all frames, identities of every fifth of the first half.

The folder that is given is used to measure; nothing that is made from it goes into the project.
"""

import csv
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from torchbank import report, tracking
from torchbank.errors import BankStateError
from torchbank.evaluation import Tracks, tracking_scores
from torchbank.tracking import (
    Appearances,
    Footage,
    IdentityGallery,
    IdentityLinker,
    Timed,
    Whitening,
    adapt_and_calibrate,
    calibrate,
    link_footage,
)

from ..measure import machine
from . import tables

LENGTH, LABELLED, FPS = 795, 396, 7.0
TRACKER = {"buffer": 30, "high_score": 0.5}
BLACK_OUTS = (50, 100, 150)
DRAWN = ("black-outs of 100 frames", "whitened, calibrating itself")
"""Of which clip and memory there are pictures."""
COLUMNS = ("frames", "boxes", "scores", "classes", "track_ids", "embeddings")


@dataclass(frozen=True)
class Clip:
    """The detections, and the truth.

    Attributes:
        footage: Boxes without track ids.
        truth: Of the frames that are labelled.
    """

    footage: Footage
    truth: Tracks


def read(folder: Path) -> Clip:
    """The clip in a folder."""
    with np.load(folder / "detections.npz") as stored:
        frames = stored["frame"].astype(np.int64)
        columns = (frames, stored["box"].astype(float), stored["score"].astype(float), np.zeros_like(frames))
        footage = Footage(*columns, np.full_like(frames, -1), stored["embedding"].astype(np.float32), LENGTH)
    with (folder / "keyframes_1_396.csv").open() as lines:
        table = np.array([[float(word) for word in row] for row in csv.reader(lines) if row[0].isdigit()])
    boxes = np.concatenate([table[:, 2:4], table[:, 2:4] + table[:, 4:6]], axis=1)
    return Clip(footage, Tracks(table[:, 0].astype(int), table[:, 1].astype(int), boxes))


def conditions(clip: Clip) -> Iterator[tuple[str, Clip]]:
    """The clip as it is; a quarter of its frames dropped; everything unseen for some frames, four times."""
    yield "as it is", clip
    dropped = np.random.default_rng(0).random(LENGTH + 1) < 0.25
    yield "25 % of frames dropped", _without(clip, dropped)
    for length in BLACK_OUTS:
        dark = np.zeros(LENGTH + 1, dtype=bool)
        # The first one in the labelled part begins when people are there to be known again.
        for begin in range(150, LENGTH, 150 + length):
            dark[begin : begin + length] = True
        yield f"black-outs of {length} frames", _without(clip, dark)


def _without(clip: Clip, dropped: np.ndarray) -> Clip:
    """Detections and truth of the frames that stay; a frame that is dropped is one in which nobody is found."""
    kept, labelled = ~dropped[clip.footage.frames], ~dropped[clip.truth.frames]
    columns = {name: getattr(clip.footage, name)[kept] for name in COLUMNS}
    return Clip(replace(clip.footage, **columns), Tracks(*(column[labelled] for column in clip.truth)))


def track(clip: Clip) -> Footage:
    """The clip with track ids."""
    return tracking.observe(
        video=None, detections=clip.footage, detector=None, embedder=None, tracker=tracking.ByteTrack(**TRACKER)
    )


def whitening(footage: Footage) -> Whitening:
    """Fitted on the second half of the clip, which is not labelled and not scored."""
    rows = (footage.frames > LABELLED) & (footage.track_ids > 0)
    return Whitening.fit(footage.track_ids[rows], footage.embeddings[rows])


def score(clip: Clip, frames: np.ndarray, ids: np.ndarray, boxes: np.ndarray) -> dict:
    """Scores on the labelled frames."""
    kept = (ids > 0) & np.isin(frames, clip.truth.frames)
    return tracking_scores(clip.truth, (frames[kept], ids[kept], boxes[kept])).as_dict()


def memories(footage: Footage) -> Iterator[tuple[str, dict]]:
    """How a linker came to its threshold and its whitening, by name; none of it sees a label."""
    yield "raw, calibrating itself", {}
    yield "whitened, calibrating itself", {"adapt": whitening(footage)}
    tracked = footage.track_ids > 0
    tracks = footage.track_ids[tracked], footage.frames[tracked], footage.embeddings[tracked]
    yield "raw, calibrated on the clip", {"threshold": calibrate(*tracks, gallery_size=20)}
    # Half of the tracks may be too few.
    with suppress(BankStateError):
        adapt, found = adapt_and_calibrate(*tracks, gallery_size=20)
        yield "whitened, calibrated on the clip", {"threshold": found, "adapt": adapt}


def run(folder: Path, video: Path | None, path: Path, pictures: Path) -> None:
    """Measure, write and print."""
    clip = read(folder)
    results = {"machine": machine("cpu"), "tracker": TRACKER, "lines": []}
    for name, changed in conditions(clip):
        footage = track(changed)
        lines = [("ByteTrack", "at the time", score(changed, footage.frames, footage.track_ids, footage.boxes))]
        for how, options in memories(footage):
            linker = IdentityLinker(IdentityGallery(footage.embeddings.shape[1], 200), lost_frames=200, **options)
            both = link_footage(linker, [Timed("pets", footage, FPS)])
            for when, seen in zip(("at the time", "corrected"), both, strict=True):
                lines.append((f"+ memory, {how}", when, score(changed, seen.frames, seen.identities, seen.boxes)))
            if name == DRAWN[0] and how == DRAWN[1]:
                draw(both[1], linker, video, pictures)
        results["lines"] += [{"clip": name, "who": who, "when": when} | scores for who, when, scores in lines]
        print(tables.pets({"lines": [line for line in results["lines"] if line["clip"] == name]}), flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    tables.write("tracking-pets", path, tables.pets(results))


def draw(seen: Appearances, linker: IdentityLinker, video: Path | None, pictures: Path) -> None:
    """The timeline and the calibration, and contact sheets where the video is given."""
    report.plot_identity_timeline(seen, pictures / "timeline.png")
    if linker.calibration is not None:
        report.plot_calibration(linker.calibration, pictures / "calibration.png")
    if video is not None:
        crops = report.annotate_video(video, seen, pictures / "clip.mp4")
        for identity, some in crops.items():
            report.plot_contact_sheet(some, pictures / f"identity-{identity:03}.png", identity=identity)
