"""Optimiser and learning-rate schedule."""

import math
from collections.abc import Iterable

import torch
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from torchbank.training._config import TrainingConfig


def build_optimizer(parameters: Iterable[Parameter], config: TrainingConfig) -> Optimizer:
    """The optimiser that a configuration names, over the parameters that learn."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    options = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        return torch.optim.SGD(learning, momentum=0.9, nesterov=True, **options)
    if config.optimizer == "adam":
        return torch.optim.Adam(learning, **options)
    return torch.optim.AdamW(learning, **options)


def build_schedule(optimizer: Optimizer, config: TrainingConfig) -> LambdaLR:
    """The learning rate by step: a linear warm-up, then the shape that a configuration names."""
    return LambdaLR(optimizer, lambda step: learning_rate_factor(step, config))


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
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
