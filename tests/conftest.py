"""Settings of the whole suite."""

import os

import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():
    # Kernels then run in Triton's interpreter. Triton reads this once, when it is imported, which PyTorch does late.
    os.environ.setdefault("TRITON_INTERPRET", "1")

# xdist runs one worker a core; more threads than cores only slow each other down.
torch.set_num_threads(1)

settings.register_profile("torchbank", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("torchbank")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked ``gpu`` where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
