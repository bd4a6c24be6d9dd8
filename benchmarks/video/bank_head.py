"""The long-term feature bank on the action task: the clip model alone, and with a head of each operator.

The clip model and the bank's features are those of `event_pairs`. Alone, the clip model answers from the last clip; a
head adds to its feature what it reads in those of the two minutes before. Everyone has the same classifier, steps and
batches.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torchbank import video

from ..jobs import Record
from . import read_out
from .clip_model import DIM, Seen
from .films import SECONDS
from .intervals import Interval, percent
from .scene import Scene, scores

ALONE = "clip model alone"
OPERATORS = ("average", "maximum", "nonlocal")
LATENT = 32


class WithBank(nn.Module):
    """A clip model's last clips to logits, with a head or without one."""

    def __init__(self, operator: str | None, classes: tuple[int, ...]) -> None:
        super().__init__()
        self.head = None if operator is None else video.FeatureBankHead(DIM, operator=operator, latent=LATENT)
        self.classes = classes
        self.layers = nn.Sequential(
            nn.Linear(DIM, read_out.HIDDEN), nn.ReLU(), nn.Linear(read_out.HIDDEN, sum(classes))
        )

    def forward(self, memory: None, seen: Seen, films: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG002
        """Logits ``(b, classes)`` of each answer."""
        features, rows = seen.features[films, -1], seen.features[films, :-1]
        if self.head is not None:
            times = (SECONDS * torch.arange(rows.shape[1], dtype=torch.float64)).expand(len(rows), -1)
            window = video.Window(rows, times, torch.ones(rows.shape[:2], dtype=torch.bool))
            features = features + self.head(features, window)
        return self.layers(features).split(self.classes, dim=1)


def lines(scene: Scene, seed: int) -> list[Record]:
    """The scores of all operators on the films of a seed."""
    found = []
    for operator in (None, *OPERATORS):
        torch.manual_seed(seed)
        model = WithBank(operator, scene.task.classes)
        read_out.train(model, None, scene.learn, scene.targets, seed)
        said = read_out.answers(model, None, scene.ask)
        found.append({"who": operator or ALONE, **scores(scene, said)})
    return found


def markdown(runs: Sequence[Record]) -> str:
    """Accuracy, and what each operator adds, seed by seed."""
    runs = [run for run in runs if "head" in run]
    found = {
        who: [line["accuracy"] for run in runs for line in run["head"] if line["who"] == who]
        for who in (ALONE, *OPERATORS)
    }
    out = [
        f"**Feature bank head** on event pairs (accuracy in %, {len(runs)} seeds, 95 % intervals; the gain is of each "
        "seed against itself):",
        "",
        "| head | accuracy | gain, points |",
        "|---|---|---|",
    ]
    for who, values in found.items():
        gain = "" if who == ALONE else str(_gain(values, found[ALONE]))
        out.append(f"| {who} | {percent(values)} | {gain} |")
    return "\n".join(out)


def _gain(values: Sequence[float], alone: Sequence[float]) -> Interval:
    return Interval.of([100 * (value - other) for value, other in zip(values, alone, strict=True)])
