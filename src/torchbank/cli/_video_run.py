"""Videos to scores without and with memory: encode, remember, classify, draw."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchbank import encoders, evaluation, report, training, video
from torchbank.cli._errors import UsageError
from torchbank.cli._video_labels import Labelled, Labels, read_labels
from torchbank.errors import BankValueError
from torchbank.io import write_json
from torchbank.training import Progress, RunFolder

ProgressBar = Callable[[str], AbstractContextManager[Callable[[Progress], None]]]
WITHOUT, WITH = "without memory", "with memory"
SCORE = {"clip": "accuracy", "frame": "mAP"}


@dataclass(frozen=True)
class VideoPlan:
    """What `torchbank video` is told; its command line describes each."""

    videos: Path
    labels: Path
    encoder: str
    weights: Path | None
    dim: int
    image_size: int
    every: float
    features: Path | None
    capacity: int
    stride: int
    novelty: float | None
    evict: str
    compress: str
    read: str
    test_fraction: float
    seed: int
    plots: int
    run: Path

    def as_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class VideoResult:
    """What came of it.

    Attributes:
        title: What was scored.
        headings: Of the scores.
        table: One row without memory and one with.
        files: What was written.
    """

    title: str
    headings: tuple[str, ...]
    table: list[tuple[str, ...]]
    files: list[Path]


@dataclass(frozen=True)
class Remembered:
    """One video as encoder and memory see it.

    Attributes:
        times: ``(n,)`` float64 seconds.
        features: ``(n, dim)``.
        contexts: What the memory gave at each moment, one after the other.
    """

    times: Tensor
    features: Tensor
    contexts: video.Context

    def rows(self, who: str) -> Tensor:
        """The features of each moment, without what was remembered or with it."""
        return self.features if who == WITHOUT else torch.cat([self.features, self.contexts.value], dim=1)


def score_videos(plan: VideoPlan, *, progress_bar: ProgressBar) -> VideoResult:
    """Encode, remember, train linear classifiers, and write everything into a run folder.

    Args:
        plan: What is asked for.
        progress_bar: Makes a progress callback for a title.

    Raises:
        BankError: Something that was asked for cannot be; then there is no run folder. What was encoded stays.
    """
    folder = RunFolder(plan.run)
    folder.check_free()
    labels = read_labels(plan.labels, plan.videos, test_fraction=plan.test_fraction, seed=plan.seed)
    memory = build_memory(plan)
    bank, kept = _encode(plan, progress_bar)
    with progress_bar("remember") as move:
        seen = {}
        for name in labels.videos:
            seen[name] = remember(memory, bank, name)
            move(Progress(len(seen), len(labels.videos), {}))
    scores = {who: score(labels, seen, plan, who) for who in (WITHOUT, WITH)}
    RunFolder.create(plan.run, plan.as_json())
    content = {"kind": labels.kind, "train": len(labels.train), "test": len(labels.test)}
    content |= {"labels": labels.names, "memory_bytes": memory.nbytes, "scores": scores}
    write_json(plan.run / "scores.json", content)
    files = [plan.run / "scores.json", kept, *_draw(plan, labels, seen)]
    title = f"{len(labels.test)} {labels.kind}s of videos that were not learned from, {len(labels.names)} labels"
    table: list[tuple[str, ...]] = [(who, f"{result['score']:.1%}") for who, result in scores.items()]
    return VideoResult(title, (SCORE[labels.kind],), table, files)


def build_memory(plan: VideoPlan) -> video.TemporalMemory:
    """An empty memory of the rules that are asked for.

    Raises:
        BankError: A number is out of range.
    """
    write = (video.EveryNth(plan.stride), *(() if plan.novelty is None else (video.Novelty(plan.novelty),)))
    evict = {"fifo": video.Fifo, "uniform": video.UniformOverLifetime, "least-used": video.LeastUsed}[plan.evict]()
    compress = {
        "none": lambda: None,
        "merge": video.MergeNeighbours,
        # As many prototypes as a quarter of the rows that they are made of, half of the memory at once.
        "prototypes": lambda: video.Prototypes(max(1, plan.capacity // 8), max(2, plan.capacity // 2)),
    }[plan.compress]()
    reads = {
        "attention": video.Attention,
        "average": video.Average,
        "maximum": video.Maximum,
        "nearest": video.Nearest,
    }
    read = reads[plan.read]()
    return video.TemporalMemory(plan.dim, plan.capacity, write=write, evict=evict, compress=compress, read=read)


def _encode(plan: VideoPlan, progress_bar: ProgressBar) -> tuple[video.FeatureBank, Path]:
    """The features of all videos, from a file if they are there."""
    # Beside the run folder: another run with another memory goes on from it.
    path = plan.run.with_name(f"{plan.run.name}-features.safetensors") if plan.features is None else plan.features
    training.seed_everything(plan.seed)
    size = (plan.image_size, plan.image_size)
    encoder = encoders.build(plan.encoder, dim=plan.dim, image_shape=(3, *size), weights=plan.weights)
    if plan.features is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    with progress_bar("encode") as move:
        bank = video.build_feature_bank(
            plan.videos,
            encoder,
            path,
            every=plan.every,
            size=size,
            progress=lambda _, done, videos: move(Progress(done, videos, {})),
        )
    return bank, path


def remember(memory: video.TemporalMemory, bank: video.FeatureBank, name: str) -> Remembered:
    """A video as a stream: the memory is read before each moment is offered to it."""
    rows = bank.rows_of(name)
    features, times = bank.features[rows].float(), bank.times[rows]
    memory.reset()
    steps = [memory.step(features[[row]], time) for row, time in enumerate(times.tolist())]
    contexts = video.Context(*(torch.cat(column) for column in zip(*steps, strict=True)))
    return Remembered(times, features, contexts)


def score(labels: Labels, seen: dict[str, Remembered], plan: VideoPlan, who: str) -> dict[str, Any]:
    """Accuracy of clips or mAP of frames, by linear classifiers.

    Raises:
        BankValueError: A labelled part has no moment, or the labels leave nothing to learn.
    """
    train, test = (
        torch.stack([_row(part, seen[part.video], plan.every, who) for part in parts])
        for parts in (labels.train, labels.test)
    )
    if labels.kind == "frame":
        wanted = [_has(labels.names, parts) for parts in (labels.train, labels.test)]
        found = evaluation.multi_label_probe(train, wanted[0], test, wanted[1])
        each = dict(zip(labels.names, found.average_precisions, strict=True))
        return {"score": found.mean_average_precision, "average_precision": each}
    numbers = [
        torch.tensor([labels.names.index(label) for part in parts for label in part.labels])
        for parts in (labels.train, labels.test)
    ]
    _check_known(labels)
    probe = evaluation.linear_probe(
        *(
            encoders.Encoded(rows, each, torch.arange(len(rows)))
            for rows, each in zip((train, test), numbers, strict=True)
        ),
        seed=plan.seed,
    )
    return {"score": probe.accuracy, "weight_decay": probe.weight_decay}


def _check_known(labels: Labels) -> None:
    """The labels of clips are classes, of which each must have been seen."""
    asked, known = ({name for part in parts for name in part.labels} for parts in (labels.test, labels.train))
    if asked - known:
        msg = (
            f"no clip to learn from has the label {min(asked - known)!r}, which is to be scored; label one, give the "
            "column split, or draw other videos with --seed"
        )
        raise UsageError(msg)


def _has(names: Sequence[str], parts: Sequence[Labelled]) -> Tensor:
    """``(parts, labels)`` bool."""
    return torch.tensor([[name in part.labels for name in names] for part in parts])


def _row(part: Labelled, seen: Remembered, every: float, who: str) -> Tensor:
    """The mean over the moments of a clip, or the latest moment of a frame."""
    times, rows = seen.times, seen.rows(who)
    if part.end > part.begin:
        inside = (times >= part.begin) & (times < part.end)
    else:
        latest = int((times <= part.begin + 1e-6).sum()) - 1
        inside = torch.arange(len(times)) == (latest if times[latest] > part.begin - 2 * every else -1)
    if not inside.any():
        msg = (
            f"{part.video} has no feature at {part.begin:g} s: the last is at {times[-1]:g} s, one each {every:g} s; "
            "correct the label, or give a smaller --every"
        )
        raise BankValueError(msg)
    return rows[inside].mean(dim=0)


def _draw(plan: VideoPlan, labels: Labels, seen: dict[str, Remembered]) -> list[Path]:
    """What the memory attended to in some of the scored videos."""
    files = []
    for name in sorted({part.video for part in labels.test})[: plan.plots]:
        contexts = seen[name].contexts
        if not contexts.valid.any():
            continue
        clips = [part for part in labels.test if part.video == name] if labels.kind == "clip" else []
        marks = [(part.begin, label) for part in clips for label in part.labels]
        files.append(plan.run / f"attention-{Path(name).with_suffix('').as_posix().replace('/', '-')}.png")
        report.plot_attention_timeline(seen[name].times, contexts, files[-1], name=name, marks=marks)
    return files
