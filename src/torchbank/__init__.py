"""Memory banks for PyTorch: exact stores of past embeddings, and losses that read them in one pass.

A bank (`MemoryBank`, `KeyedMemoryBank`, `ReservoirMemoryBank`) keeps rows; its reads (``attend``, ``nearest``,
``pair_sum``) and the functions of `torchbank.losses` compare a batch with all of them at once. `load` reads a
saved bank. The rooms that train (`data`, `encoders`, `evaluation`, `training`, `methods`, `report`) are
imported when they are first used, and need the extra ``torchbank[train]``; `tracking`, which gives tracked objects
their old ids back, needs ``torchbank[tracking]``; `video` is long context for video.
"""

import importlib
from typing import TYPE_CHECKING, Any

from torchbank import banks, drift, errors, io, losses, reads, sharding
from torchbank.banks import (
    Bank,
    BankView,
    KeyedMemoryBank,
    MemoryBank,
    Replacement,
    ReservoirMemoryBank,
    Rows,
)
from torchbank.drift import MomentumEncoder
from torchbank.io import load
from torchbank.reads import Neighbors, PairFunction, PairSum, Readout
from torchbank.sharding import replicate, shard

if TYPE_CHECKING:
    from torchbank import data, encoders, evaluation, interop, methods, report, tracking, training, video
    from torchbank.encoders import encode

__all__ = [
    "Bank",
    "BankView",
    "KeyedMemoryBank",
    "MemoryBank",
    "MomentumEncoder",
    "Neighbors",
    "PairFunction",
    "PairSum",
    "Readout",
    "Replacement",
    "ReservoirMemoryBank",
    "Rows",
    "banks",
    "data",
    "drift",
    "encode",
    "encoders",
    "errors",
    "evaluation",
    "interop",
    "io",
    "load",
    "losses",
    "methods",
    "reads",
    "replicate",
    "report",
    "shard",
    "sharding",
    "tracking",
    "training",
    "video",
]
__version__ = "0.1.0"

_LAZY = ("data", "encoders", "evaluation", "interop", "methods", "report", "tracking", "training", "video")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"torchbank.{name}")
    if name == "encode":
        return importlib.import_module("torchbank.encoders").encode
    msg = f"module 'torchbank' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
