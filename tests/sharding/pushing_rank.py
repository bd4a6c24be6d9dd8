"""A rank that saves once and then pushes and reads until it is ended; to be killed. ``pushing_rank.py FOLDER``."""

import sys

import processes
import torch
from torch.distributed import checkpoint

import torchbank as tb

rank, ranks = processes.join()
bank = tb.shard(tb.MemoryBank(64, 4))
bank.push(torch.ones(4, 4))
checkpoint.save(tb.sharding.checkpoint_state(bank), checkpoint_id=sys.argv[1])
while True:
    bank.push(torch.randn(4, 4))
    bank.nearest(torch.randn(4, 4), 2)
    processes.say("step")
