"""Run a module as it runs in evaluation, and leave it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["device_of", "evaluation_mode"]


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode inside the `with` block, and every part of it back in its own mode after."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        # One by one: frozen batch norms in a training encoder must stay frozen.
        for part, training in modes:
            part.training = training


def device_of(module: nn.Module) -> torch.device:
    """Where the tensors of a module are; the CPU if it has none."""
    tensors = (*module.parameters(), *module.buffers())
    return tensors[0].device if tensors else torch.device("cpu")
