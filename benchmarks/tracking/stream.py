"""Ten hours of a stream, compressed: bytes and time for each frame must stay flat.

Compressed means that people change faster than they do: 50 are in view in each frame, each for 10 frames, so that
five leave and five come with every frame, and 100,000 have been seen after 25,500 frames; a frame's time stamp moves
by 1.4 s, so that those are ten hours. They are looked at once, for five frames. Every fifth who comes has been there
before. The gallery keeps 5,000. So many newcomers in each frame are forty times what a camera at 30 frames a second
would see in ten hours. Two short streams stand before a gallery that is full from the start: of a camera with 10 frames
a second, where everyone stays for 14 seconds and is looked at three times, and of people who stay for 500 frames.
"""

import json
import time
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import torch

from torchbank.report import _style
from torchbank.tracking import IdentityGallery, IdentityLinker

from ..measure import machine
from . import tables

DIM, IN_VIEW, KEPT, WINDOW = 128, 50, 5_000, 500
HOURS, RETURNING = 10.0, 0.2


def run(frames: int, path: Path, images: Path) -> None:
    """Measure, write, print and draw."""
    # What "2 cores" means.
    torch.set_num_threads(2)
    results = {"machine": machine("cpu"), "in_view": IN_VIEW, "kept": KEPT, "dim": DIM}
    results["changing"] = stream(frames, stay=10)
    results["camera"] = stream(max(2_000, frames // 10), stay=144, looks=3, lost_frames=900)
    results["steady"] = stream(max(2_000, frames // 10), stay=500)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    for name in ("changing", "camera", "steady"):
        last = results[name]["windows"][-1]
        print(f"{name}: {results[name]['people']:,} people seen; at the end {last}")
    picture = "![Ten hours](images/tracking-stream.png)"
    tables.write("tracking-stream", path, f"{picture}\n\n{tables.stream(results)}")
    draw(results["changing"], images / "tracking-stream.png")


def stream(frames: int, *, stay: int, looks: int = 1, lost_frames: int = 5) -> dict:
    """One stream, in windows of 500 frames: median and 99th percentile of milliseconds, bytes, identities."""
    random = np.random.default_rng(0)
    gallery = IdentityGallery(DIM, max_identities=KEPT, samples_per_identity=8)
    linker = IdentityLinker(gallery, threshold=0.6, looks=looks, lost_frames=lost_frames, history=10_000)
    if stay > WINDOW // 10:
        for look in _looks(random, KEPT):
            gallery.enroll(look, time=0.0)
    windows, spent = [], []
    # Everybody in view: their looks, track ids and frames left; who was seen and can return.
    faces, known, seen = _looks(random, IN_VIEW), _looks(random, 2_000), IN_VIEW
    tracks, left = np.arange(IN_VIEW), 1 + np.arange(IN_VIEW) * stay // IN_VIEW
    for frame in range(frames):
        gone = np.flatnonzero(left == 0)
        if len(gone):
            known[random.integers(0, len(known), len(gone))] = faces[gone]
            back = random.random(len(gone)) < RETURNING
            faces[gone] = np.where(back[:, None], known[random.integers(0, len(known), len(gone))],
                                   _looks(random, len(gone)))  # fmt: skip
            seen += int((~back).sum())
            tracks[gone] = tracks.max() + 1 + np.arange(len(gone))
            left[gone] = stay
        left -= 1
        embeddings = faces + 0.4 * _looks(random, IN_VIEW)
        begin = time.perf_counter()
        linker.update(tracks, embeddings, frame=frame, time=frame * 3600 * HOURS / frames)
        spent.append(1e3 * (time.perf_counter() - begin))
        if len(spent) == WINDOW:
            windows.append(
                {
                    "frame": frame + 1,
                    "median_ms": round(median(spent), 3),
                    "p99_ms": round(quantiles(spent, n=100)[98], 3),
                    "gallery_bytes": gallery.nbytes,
                    "process_bytes": _resident(),
                    "identities": len(gallery),
                }
            )
            spent = []
    return {"frames": frames, "stay": stay, "people": seen, "windows": windows}


def _looks(random: np.random.Generator, count: int) -> np.ndarray:
    vectors = random.normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _resident() -> int:
    words = Path("/proc/self/statm").read_text().split()
    return int(words[1]) * 4096


def draw(changing: dict, path: Path) -> None:
    """Time and bytes over ten hours."""
    windows = changing["windows"]
    hours = [HOURS * window["frame"] / changing["frames"] for window in windows]
    with _style.picture(path, width=10.5, height=7.0) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        upper.plot(hours, [window["median_ms"] for window in windows], color=_style.BLUE, label="median")
        upper.plot(hours, [window["p99_ms"] for window in windows], color=_style.BLUE, linestyle="--", linewidth=1.4,
                   label="99th percentile")  # fmt: skip
        upper.set(ylabel=f"ms a frame of {IN_VIEW} boxes", ylim=(0, None))
        upper.legend(loc="lower right")
        lower.plot(hours, [window["process_bytes"] / 1e6 for window in windows], color=_style.VERMILION,
                   linestyle="--", label="the whole process")  # fmt: skip
        lower.plot(hours, [window["gallery_bytes"] / 1e6 for window in windows], color=_style.BLUE, label="the gallery")
        lower.set(ylabel="MB", xlabel="hours of a simulated stream", ylim=(0, None), xlim=(0, HOURS))
        lower.legend(loc="center right")
        figure.suptitle(
            f"{changing['people']:,} people seen, {KEPT:,} kept: time and memory stay flat",
            fontsize=16,
            fontweight="bold",
            x=0.01,
            ha="left",
        )
