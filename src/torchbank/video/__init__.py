"""Long context for video and other streams, in a fixed number of bytes.

`TemporalMemory` stands behind any encoder of frames or clips. Which rows it takes, lets go, merges and reads are rules:
small objects, each of a published method.
"""

from torchbank.video._compress_rules import CompressRule, MergeNeighbours, Prototypes
from torchbank.video._context import Context, StreamView, Window
from torchbank.video._evict_rules import EvictRule, Fifo, LeastUsed, PinnedAnchors, UniformOverLifetime
from torchbank.video._ledger import Arrivals, Past, Rewrite
from torchbank.video._memory_file import load
from torchbank.video._read_rules import Attention, Average, Maximum, Nearest, ReadRule, Seen
from torchbank.video._write_rules import EveryNth, Novelty, Quality, WriteRule
from torchbank.video.memory import TemporalMemory

__all__ = [
    "Arrivals",
    "Attention",
    "Average",
    "CompressRule",
    "Context",
    "EveryNth",
    "EvictRule",
    "Fifo",
    "LeastUsed",
    "Maximum",
    "MergeNeighbours",
    "Nearest",
    "Novelty",
    "Past",
    "PinnedAnchors",
    "Prototypes",
    "Quality",
    "ReadRule",
    "Rewrite",
    "Seen",
    "StreamView",
    "TemporalMemory",
    "UniformOverLifetime",
    "Window",
    "WriteRule",
    "load",
]
