"""Random numbers that are a function of the step: nothing to save, and equal on all ranks."""

import numpy as np
import torch


def step_generator(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """A CPU generator for one step of one run.

    Args:
        seed: Of the run.
        step: Updates made so far.
        stream: Which of several uses in one step.
    """
    # PyTorch seeds its generator with 32 bits only; this mixes all three numbers into them.
    mixed = np.random.SeedSequence((seed, step, stream)).generate_state(1)[0]
    return torch.Generator().manual_seed(int(mixed))
