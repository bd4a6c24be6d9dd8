"""What all contestants of a task and a seed share: films, as a clip model of other films' clips sees them."""

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..jobs import Record
from . import clip_model, cup_shuffle, digit_recall, event_pairs
from .clip_model import Seen
from .films import Films, Task

BINS = (10, 20, 40, 80, 121)
"""Seconds of lag between which accuracy is told."""


class Sizes(NamedTuple):
    """Films for the clip model, to learn a read-out from, and to be asked."""

    clips: int = 320
    learn: int = 448
    ask: int = 224


TINY = Sizes(8, 8, 8)
Make = Callable[..., Films]
TASKS: dict[str, tuple[Task, Make, Make]] = {
    # To learn from, and to be asked.
    "events": (event_pairs.TASK, event_pairs.make, event_pairs.make),
    "digits": (
        digit_recall.TASK,
        functools.partial(digit_recall.make, asked=False),
        functools.partial(digit_recall.make, asked=True),
    ),
    "cups": (cup_shuffle.TASK, cup_shuffle.make, cup_shuffle.make),
}


class Scene(NamedTuple):
    """Everything of a task and a seed that contestants share."""

    task: Task
    learn: Seen
    ask: Seen
    targets: Tensor
    asked: Films
    clip_accuracy: float


def prepare(name: str, seed: int, sizes: Sizes) -> Scene:
    """Films, and how a clip model that was trained on clips of others sees them."""
    task, make, make_asked = TASKS[name]
    first = 10 * seed
    model = clip_model.train(make(first, sizes.clips), task.clip_classes, seed, steps=task.steps)
    learn, ask = make(first + 1, sizes.learn), make_asked(first + 2, sizes.ask)
    seen = clip_model.see(model, ask)
    accuracy = clip_model.clip_accuracy(model, seen, ask)
    return Scene(task, clip_model.see(model, learn), seen, torch.from_numpy(learn.targets), ask, accuracy)


def right(scene: Scene, said: Tensor) -> np.ndarray:
    """Which answers ``(n, heads)`` are, ``(n,)``."""
    return (said.numpy() == scene.asked.targets).all(axis=1)


def scores(scene: Scene, said: Tensor) -> Record:
    """Accuracy, by lag too, and the mean distance of the answer in its heads (for places: cells)."""
    correct, lags = right(scene, said), scene.asked.lags
    by_lag = [correct[(low <= lags) & (lags < high)] for low, high in pairwise(BINS)]
    distance = np.abs(said.numpy() - scene.asked.targets).sum(axis=1).mean()
    return {
        "accuracy": float(correct.mean()),
        "by_lag": [float(part.mean()) if len(part) else None for part in by_lag],
        "distance": float(distance),
    }
