"""Every random stream that training touches: seeded, captured and restored together."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (the CPU and every CUDA device).

    Args:
        seed: Any integer from 0 up.
    """
    random.seed(seed)
    # The global stream of NumPy is legacy, but augmentations and data sets of users draw from it.
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The position of every random stream, as nested tensors, arrays and numbers."""
    version, words, next_gauss = random.getstate()
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    return {
        # Words of 32 bits without a sign: PyTorch does little with uint32, int64 holds the same values.
        "python": (version, np.asarray(words, dtype=np.int64), next_gauss),
        "numpy": (name, np.asarray(keys, dtype=np.int64), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put every random stream back where `random_state` found it.

    Args:
        state: What `random_state` returned. CUDA streams are restored where there are as many devices.
    """
    version, words, next_gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), next_gauss))
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def untouched_random_state() -> Iterator[None]:
    """Run something, such as an evaluation, without moving any random stream."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)
