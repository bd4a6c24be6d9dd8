"""Optimiser, and what of it moves with the step: learning rate and weight decay."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from torchbank.training._config import TrainingConfig

# Of XBM's 34,000 iterations on Stanford Online Products, 24,000 have the first learning rate.
FIRST_PART = (24, 34)


def build_optimizer(parameters: Iterable[Parameter], config: TrainingConfig) -> Optimizer:
    """The optimiser that a configuration names, over the parameters that learn, set for the first step.

    Args:
        parameters: Those that do not require a gradient are left out.
        config: Which optimiser, and the settings of `apply_schedules`. With ``decayed="matrices"``, parameters of
            fewer than two axes are a group of their own, without weight decay.
    """
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    decayed = [parameter for parameter in learning if config.decayed == "all" or parameter.dim() > 1]
    kept = [parameter for parameter in learning if config.decayed == "matrices" and parameter.dim() < 2]
    groups: list[dict[str, Any]] = [{"params": decayed, "decays": True}, {"params": kept, "decays": False}]
    groups = [group for group in groups if group["params"]]
    if config.optimizer in ("sgd", "nesterov"):
        nesterov = config.optimizer == "nesterov"
        optimizer: Optimizer = torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=nesterov)
    else:
        kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
        optimizer = kind(groups, lr=config.learning_rate)
    apply_schedules(optimizer, config, step=0)
    return optimizer


def apply_schedules(optimizer: Optimizer, config: TrainingConfig, *, step: int) -> None:
    """Set the learning rate and weight decay of a step: pure functions of it, so that there is no state to keep.

    Args:
        optimizer: What `build_optimizer` made.
        config: The settings.
        step: Updates made so far.
    """
    learning_rate = config.learning_rate * learning_rate_factor(step, config)
    decay = weight_decay_at(step, config)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
        group["weight_decay"] = decay if group["decays"] else 0.0


def learning_rate_factor(step: int, config: TrainingConfig) -> float:
    """The share of the highest learning rate that is used at a step.

    Args:
        step: Updates made so far.
        config: ``steps``, ``warmup_steps`` and ``schedule`` are read.

    Returns:
        A number from 0 to 1.

    Example:
        >>> from torchbank.training import TrainingConfig, learning_rate_factor
        >>> config = TrainingConfig(steps=110, warmup_steps=10, schedule="cosine")
        >>> [round(learning_rate_factor(step, config), 2) for step in (0, 4, 9, 10, 60, 109)]
        [0.1, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "step":
        first, of_all = FIRST_PART
        return 1.0 if step * of_all < first * config.steps else 0.1
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return _half_cosine(progress)


def weight_decay_at(step: int, config: TrainingConfig) -> float:
    """The weight decay that is used at a step: constant, or along a half cosine from its first to its last value.

    Args:
        step: Updates made so far.
        config: ``steps``, ``weight_decay`` and ``final_weight_decay`` are read.

    Example:
        >>> from torchbank.training import TrainingConfig, weight_decay_at
        >>> config = TrainingConfig(steps=100, weight_decay=0.04, final_weight_decay=0.4)
        >>> [round(weight_decay_at(step, config), 2) for step in (0, 50, 100)]
        [0.04, 0.22, 0.4]
    """
    if config.final_weight_decay is None:
        return config.weight_decay
    share = _half_cosine(step / config.steps)
    return config.final_weight_decay + share * (config.weight_decay - config.final_weight_decay)


def _half_cosine(progress: float) -> float:
    """From 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
