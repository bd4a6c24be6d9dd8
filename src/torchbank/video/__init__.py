"""Long context for video and other streams, in a fixed number of bytes.

`TemporalMemory` stands behind any encoder of frames or clips. Which rows it takes, lets go, merges and reads are rules:
small objects, each of a published method. `FeatureBankHead` adds a long window to a clip model's features, from such a
memory or from a `FeatureBank` of whole videos, which `build_feature_bank` makes. `follow` steps through a stream that
outlives a process.
"""

from torchbank.video._bank_of_folder import build_feature_bank
from torchbank.video._compress_rules import CompressRule, MergeNeighbours, Prototypes
from torchbank.video._context import Context, StreamView, Window
from torchbank.video._evict_rules import EvictRule, Fifo, LeastUsed, PinnedAnchors, UniformOverLifetime
from torchbank.video._ledger import Arrivals, Past, Rewrite
from torchbank.video._memory_file import load
from torchbank.video._read_rules import Attention, Average, Maximum, Nearest, ReadRule, Seen
from torchbank.video._write_rules import EveryNth, Novelty, Quality, WriteRule
from torchbank.video.feature_bank import FeatureBank, FeatureBankHead
from torchbank.video.memory import TemporalMemory
from torchbank.video.stream import Moment, follow

__all__ = [
    "Arrivals",
    "Attention",
    "Average",
    "CompressRule",
    "Context",
    "EveryNth",
    "EvictRule",
    "FeatureBank",
    "FeatureBankHead",
    "Fifo",
    "LeastUsed",
    "Maximum",
    "MergeNeighbours",
    "Moment",
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
    "build_feature_bank",
    "follow",
    "load",
]
