"""A rank that saves every so many steps, and pushes and reads until it is ended: ``pushing_rank.py FOLDER EVERY``."""

import os
import sys
from itertools import count
from pathlib import Path

import processes
import torch
from torch.distributed import checkpoint

import torchbank as tb

rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
processes.join(rank, ranks, os.environ["MEETING"])
bank = tb.shard(tb.MemoryBank(64, 4))
for step in count():
    if step % int(sys.argv[2]) == 0:
        # Each in a folder of its own: one that is being written when a rank ends is not the last that is whole.
        state = tb.sharding.checkpoint_state(bank)
        checkpoint.save(state, checkpoint_id=Path(sys.argv[1]) / str(step))
    bank.push(torch.randn(4, 4), step=step)
    bank.nearest(torch.randn(4, 4), 2)
    processes.say("step")
