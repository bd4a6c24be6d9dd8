"""Keys encoded beside others than their queries, so that batch statistics tell nothing about who belongs to whom.

The batches of all ranks are put into one random order, each rank encodes a share of it, and each gets the keys of
its own batch back: the shuffled batch norm of [He et al. 2020, sec. 3.3](arXiv:1911.05722).
"""

from collections.abc import Callable

import torch
from torch import Tensor, distributed


@torch.no_grad()
def encode_shuffled(encode: Callable[[Tensor], Tensor], inputs: Tensor, generator: torch.Generator) -> Tensor:
    """``encode(inputs)``, computed in another order and by other ranks.

    Args:
        encode: Inputs ``(b, ...)`` to keys ``(b, dim)``.
        inputs: This rank's; every rank has as many.
        generator: Equal on all ranks.
    """
    batch, rank = len(inputs), distributed.get_rank() if _ranks() > 1 else 0
    mine = slice(rank * batch, (rank + 1) * batch)
    order = torch.randperm(batch * _ranks(), generator=generator).to(inputs.device)
    keys = _of_all_ranks(encode(_of_all_ranks(inputs)[order[mine]]))
    return keys[order.argsort()[mine]]


def _ranks() -> int:
    ready = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if ready else 1


def _of_all_ranks(values: Tensor) -> Tensor:
    """The rows of all ranks, in rank order."""
    if _ranks() == 1:
        return values
    gathered = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(_ranks())]
    distributed.all_gather(gathered, values.contiguous())
    return torch.cat(gathered)
