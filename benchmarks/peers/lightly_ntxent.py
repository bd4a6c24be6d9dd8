"""lightly's `NTXentLoss` with a memory bank, which copies its bank at each step and then takes the keys in.

The bank is filled in one call of its own `MemoryBankModule.forward` before timing. A step is the loss as
documented, forward and backward: normalise, copy, logits, cross-entropy, enqueue.
"""

from importlib.util import find_spec

import torch

from ..contestants import TEMPERATURE, backward
from ..data import Contestant, Inputs
from ..measure import Step

_declared: list[torch.library.Library] = []
"""Kept alive: an operator goes with its library."""


def _declare_torchvision_operators() -> None:
    """Let torchvision's CUDA wheel import beside a CPU build of torch.

    At import it registers shape functions for two operators that its compiled part, which does not load there,
    would declare. Nothing that is timed here calls them.
    """
    if not torch.cuda.is_available() and not _declared and find_spec("torchvision"):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)


def _ntxent(data: Inputs) -> Step:
    _declare_torchvision_operators()
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature=TEMPERATURE, memory_bank_size=(len(data.rows), data.case.dim)).to(data.device)
    loss.memory_bank(data.rows, update=True)
    return backward(data.queries, lambda q: loss(q, data.positives))


CONTESTANTS = {"info_nce": [Contestant("lightly NTXentLoss", _ntxent, needs="lightly", dtypes=("float32",), floats=6)]}
