"""The long-term feature bank on the action task: the clip model alone, and with a head of each operator.

The clip model and the bank's features are those of `event_pairs`. Alone, the clip model answers from the last clip; a
head adds what it reads in the features of the two minutes before. Everyone has the same read-out, steps and batches.
"""

import time

import torch
from torch import Tensor, nn

from torchbank import video

from ..jobs import Record
from . import read_out
from .clip_model import DIM, Seen
from .intervals import Interval, percent
from .suite import TINY, Scene, Sizes, _scores, prepare

OPERATORS = ("average", "maximum", "nonlocal")
ALONE = "clip model alone"


class BankRead(nn.Module):
    """Context ``(b, DIM)`` of a feature bank head; zeros without one."""

    def __init__(self, operator: str | None) -> None:
        super().__init__()
        self.head = None if operator is None else video.FeatureBankHead(DIM, operator=operator)

    def forward(self, memory: None, seen: Seen, films: Tensor) -> Tensor:  # noqa: ARG002
        """What the head adds to the last clip's features."""
        last = seen.features[films, -1]
        if self.head is None:
            return torch.zeros_like(last)
        bank = seen.features[films, :-1]
        return self.head(last, bank, torch.ones(bank.shape[:2], dtype=torch.bool))


def work(settings: Record) -> Record:
    """All operators on the films of a seed: a job of `benchmarks.jobs`."""
    torch.set_num_threads(1)
    begin = time.process_time()
    scene = prepare("events", settings["seed"], TINY if settings["tiny"] else Sizes())
    lines = [{"who": operator or ALONE, **_of(scene, operator, settings["seed"])} for operator in (None, *OPERATORS)]
    return {"lines": lines, "cpu_seconds": time.process_time() - begin}


def _of(scene: Scene, operator: str | None, seed: int) -> Record:
    torch.manual_seed(seed)
    model = read_out.Answer(BankRead(operator), scene.task.classes)
    read_out.train(model, None, scene.learn, scene.targets, seed)
    return _scores(scene, read_out.answers(model, None, scene.ask))


def markdown(runs: list[Record]) -> str:
    """Accuracy, and what each operator adds, seed by seed."""
    found = {
        who: [line["accuracy"] for run in runs for line in run["lines"] if line["who"] == who]
        for who in (ALONE, *OPERATORS)
    }
    out = [
        f"Accuracy of the pair in %, {len(runs)} seeds, 95 % intervals; the gain is of each seed against itself:",
        "",
        "| feature bank head | accuracy | gain, points |",
        "|---|---|---|",
    ]
    for who, values in found.items():
        gain = "" if who == ALONE else str(_gain(values, found[ALONE]))
        out.append(f"| {who} | {percent(values)} | {gain} |")
    return "\n".join(out)


def _gain(values: list[float], alone: list[float]) -> Interval:
    return Interval.of([100 * (value - other) for value, other in zip(values, alone, strict=True)])
