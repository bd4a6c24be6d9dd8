"""Banks that several processes share, over ``torch.distributed``.

`replicate` keeps the same rows on every rank, `shard` a part of them on each; both are banks with the methods of any
other, in every loss. With one process and no process group they do the same alone.
"""

from torchbank.sharding._agreement import check_replicas, checksum
from torchbank.sharding._checkpoint import checkpoint_state, load_checkpoint
from torchbank.sharding._collectives import Ranks
from torchbank.sharding._one_batch import rows_of_all_ranks, share_batch_norm
from torchbank.sharding._rank_tag import keep_local
from torchbank.sharding._replicate import ReplicatedBank, replicate
from torchbank.sharding._shard import ShardedBank, shard
from torchbank.sharding._shared import SharedBank

__all__ = [
    "Ranks",
    "ReplicatedBank",
    "ShardedBank",
    "SharedBank",
    "check_replicas",
    "checkpoint_state",
    "checksum",
    "keep_local",
    "load_checkpoint",
    "replicate",
    "rows_of_all_ranks",
    "shard",
    "share_batch_norm",
]
