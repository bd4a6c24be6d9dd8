"""What the pictures of docs/tracking.md show: a timeline of two cameras, and a calibration."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from torchbank import report
from torchbank.tracking import Footage, IdentityGallery, IdentityLinker, Timed, calibrate, link_footage

from .contestants import byte_track
from .scenes import DIM, EASY, HARD, Scene, make

FPS = 30.0
SEEDS = (300, 301)


def draw(images: Path) -> None:
    """Draw them."""
    scene = make(replace(EASY, people=9, frames=1500, teams=3, likeness=0.5), SEEDS[0])
    # Another camera sees the same people later, as other tracks.
    videos = [Timed(name, footage_of(scene), FPS, start) for name, start in (("camera A", 0.0), ("camera B", 55.0))]
    _, corrected = link_footage(IdentityLinker(IdentityGallery(DIM), fps=FPS), videos)
    report.plot_identity_timeline(corrected, images / "tracking-timeline.png")
    scene = make(replace(HARD, frames=1800, people=24, absence=(60, 600)), SEEDS[1])
    found = calibrate(byte_track(scene, 30).ids, scene.frames, scene.embeddings, gallery_size=24)
    report.plot_calibration(found, images / "tracking-calibration.png")


def footage_of(scene: Scene) -> Footage:
    """A scene with ByteTrack's ids, frames from 1 on."""
    classes = np.zeros_like(scene.frames)
    ids = byte_track(scene, 30).ids
    return Footage(scene.frames + 1, scene.boxes, scene.scores, classes, ids, scene.embeddings, scene.kind.frames)
