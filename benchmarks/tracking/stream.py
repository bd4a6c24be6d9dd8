"""Ten hours of a stream: bytes and time for each frame must stay flat.

A camera gives 10 frames a second, with 50 people in each. Everyone stays for 14 seconds and somebody comes for who
leaves, every fifth of them known already, so that 100,000 are seen in ten hours. The gallery keeps 5,000.
"""

import json
import time
from pathlib import Path
from statistics import fmean, median, quantiles

import numpy as np
import torch

from torchbank.report import _style
from torchbank.tracking import IdentityGallery, IdentityLinker

from ..measure import machine
from . import tables

DIM, IN_VIEW, KEPT = 128, 50, 5_000
FPS, STAY, RETURNING = 10, 144, 0.2
WINDOW = 2_000


def run(frames: int, path: Path, images: Path) -> None:
    """Measure, write, print and draw."""
    # What "2 cores" means.
    torch.set_num_threads(2)
    results = {"machine": machine("cpu"), "in_view": IN_VIEW, "kept": KEPT, "dim": DIM, "fps": FPS, **stream(frames)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{results['people']:,} people seen in {hours(results):.1f} hours; at the end {results['windows'][-1]}")
    picture = "![Ten hours](images/tracking-stream.png)"
    tables.write("tracking-stream", path, f"{picture}\n\n{tables.stream(results)}")
    draw(results, images / "tracking-stream.png")


def hours(stream: dict, frame: int | None = None) -> float:
    """When a frame was, or how long the stream is."""
    return (stream["frames"] if frame is None else frame) / FPS / 3600


def stream(frames: int) -> dict:
    """In windows of 2,000 frames: milliseconds a frame, bytes, identities."""
    random = np.random.default_rng(0)
    gallery = IdentityGallery(DIM, max_identities=KEPT, samples_per_identity=8)
    linker = IdentityLinker(gallery, threshold=0.6, fps=FPS, history=10_000)
    windows, spent = [], []
    # Everybody in view: their looks, track ids and frames left; who was seen and can return.
    looks, known, seen = _looks(random, IN_VIEW), _looks(random, 2_000), IN_VIEW
    tracks, left = np.arange(IN_VIEW), 1 + np.arange(IN_VIEW) * STAY // IN_VIEW
    for frame in range(frames):
        gone = np.flatnonzero(left == 0)
        if len(gone):
            known[random.integers(0, len(known), len(gone))] = looks[gone]
            back = random.random(len(gone)) < RETURNING
            looks[gone] = np.where(back[:, None], known[random.integers(0, len(known), len(gone))],
                                   _looks(random, len(gone)))  # fmt: skip
            seen += int((~back).sum())
            tracks[gone] = tracks.max() + 1 + np.arange(len(gone))
            left[gone] = STAY
        left -= 1
        embeddings = looks + 0.4 * _looks(random, IN_VIEW)
        begin = time.perf_counter()
        linker.update(tracks, embeddings, frame=frame)
        spent.append(1e3 * (time.perf_counter() - begin))
        if len(spent) == WINDOW:
            windows.append(
                {
                    "frame": frame + 1,
                    "mean_ms": round(fmean(spent), 3),
                    "median_ms": round(median(spent), 3),
                    "p99_ms": round(quantiles(spent, n=100)[98], 3),
                    "gallery_bytes": gallery.nbytes,
                    "process_bytes": _resident(),
                    "identities": len(gallery),
                }
            )
            spent = []
    return {"frames": frames, "stay": STAY, "people": seen, "windows": windows}


def _looks(random: np.random.Generator, count: int) -> np.ndarray:
    vectors = random.normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _resident() -> int:
    words = Path("/proc/self/statm").read_text().split()
    return int(words[1]) * 4096


def draw(stream: dict, path: Path) -> None:
    """Time and bytes over the hours."""
    windows = stream["windows"]
    when = [hours(stream, window["frame"]) for window in windows]
    with _style.picture(path, width=10.5, height=7.0) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        upper.plot(when, [window["mean_ms"] for window in windows], color=_style.BLUE, label="mean")
        upper.plot(when, [window["p99_ms"] for window in windows], color=_style.BLUE, linestyle="--", linewidth=1.4,
                   label="99th percentile")  # fmt: skip
        upper.set(ylabel=f"ms a frame of {IN_VIEW} boxes", ylim=(0, None))
        upper.legend(loc="lower right")
        lower.plot(when, [window["process_bytes"] / 1e6 for window in windows], color=_style.VERMILION,
                   linestyle="--", label="the whole process")  # fmt: skip
        lower.plot(when, [window["gallery_bytes"] / 1e6 for window in windows], color=_style.BLUE, label="the gallery")
        lower.set(ylabel="MB", xlabel="hours of a simulated stream", ylim=(0, None), xlim=(0, hours(stream)))
        lower.legend(loc="center right")
        figure.suptitle(
            f"{stream['people']:,} people seen, {KEPT:,} kept: time and memory stay flat",
            fontsize=16,
            fontweight="bold",
            x=0.01,
            ha="left",
        )
