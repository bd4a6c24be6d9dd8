"""Settings of the whole suite."""

import torch
from hypothesis import settings

# xdist runs one worker a core; more threads than cores only slow each other down.
torch.set_num_threads(1)

settings.register_profile("torchbank", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("torchbank")
