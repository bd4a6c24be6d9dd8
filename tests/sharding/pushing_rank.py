"""A rank that pushes and reads until it is ended, and saves now and then: ``pushing_rank.py FOLDER EVERY TIMEOUT``."""

import datetime
import os
import sys
from itertools import count
from pathlib import Path

import processes
import torch
from torch import distributed
from torch.distributed import checkpoint

import torchbank as tb

rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
processes.join(rank, ranks, os.environ["MEETING"])
# All have come by now: from here on none may keep the others waiting.
group = distributed.new_group(timeout=datetime.timedelta(seconds=int(sys.argv[3])))
bank = tb.shard(tb.MemoryBank(64, 4), group)
for step in count():
    if step % int(sys.argv[2]) == 0:
        # Each in a folder of its own: one that is being written when a rank ends is not the last that is whole.
        state = tb.sharding.checkpoint_state(bank)
        checkpoint.save(state, checkpoint_id=Path(sys.argv[1]) / str(step))
    bank.push(torch.randn(4, 4), step=step)
    bank.nearest(torch.randn(4, 4), 2)
    processes.say("step")
