"""Whether this processor multiplies bfloat16 matrices faster than float32 ones."""

from functools import cache

import torch
from torch import Tensor


@cache
def fast_products() -> bool:
    """Whether PyTorch multiplies bfloat16 matrices by instructions of this processor made for it."""
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return torch.backends.mkldnn.is_available() and any(getattr(torch.cpu, name, bool)() for name in known)


def bf16_products(queries: Tensor, rows: Tensor) -> torch.dtype | None:
    """bfloat16 where its products of float32 queries with rows of it, on the CPU, are faster; else None."""
    fits = queries.is_cpu and queries.dtype == torch.float32 and rows.dtype == torch.bfloat16
    return torch.bfloat16 if fits and fast_products() else None
