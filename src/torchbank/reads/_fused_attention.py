"""PyTorch's fused CPU attention as a bank read: keys = values = bank.

The operator is private, so everything about it is in this file: it is tried once on a small case before its
first use, and `attend` streams in blocks where it is missing or wrong. It must never see an empty batch or an
empty bank (it kills the process), a mask that leaves a query nothing (it returns 0 for -inf), or mixed dtypes.
"""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from torchbank.reads._products import bfloat16_pays
from torchbank.reads._selection import Selection
from torchbank.reads._staging import resident_rows, staged

# The operator splits its work over heads and runs of queries; a small batch fills the cores only as heads.
_SMALL_BATCH = 16
_HEADS = 8


def fits(queries: Tensor, rows: Tensor, selection: Selection, *, fast: bool) -> bool:
    """Whether this read is one that the operator does rightly and faster than the blocked form."""
    return (
        queries.device.type == "cpu"
        and len(queries) > 0
        and len(rows) >= _HEADS
        and queries.dtype == torch.float32
        and (rows.dtype == torch.float32 or (fast and _quick_in(rows.dtype, len(queries))))
        and selection.bias is None
        and not selection.exclude
        and not selection.include
        and _works()
    )


def _quick_in(dtype: torch.dtype, batch: int) -> bool:
    """Whether the operator is quicker in 16 bits than the blocked form, which converts rows to float32.

    A small batch takes as long as reading the rows does; with more queries the operator is as slow as its products are.
    """
    return dtype == torch.float16 or (dtype == torch.bfloat16 and (batch <= _SMALL_BATCH or bfloat16_pays()))


def attend(
    queries: Float[Tensor, "batch dim"], rows: Float[Tensor, "rows dim"], scale: Float[Tensor, ""]
) -> tuple[Tensor, Tensor]:
    """The log-sum-exp (batch,) and readout (batch, dim) of unmasked rows, run by run."""
    cast, size = queries.to(rows.dtype), resident_rows(rows)
    runs = (slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size))
    steps = ((run.stop, run) for run in runs)
    parts = [part for _, block in staged(rows, steps, size, rows.device) for part in _by_heads(cast, block, scale)]
    lse, readout = (torch.cat(values) for values in zip(*parts, strict=True))
    total = lse.logsumexp(dim=0)
    weights = (lse - total).exp()
    return total.to(queries.dtype), torch.einsum("hb,hbd->bd", weights, readout.to(weights.dtype)).to(queries.dtype)


def _by_heads(queries: Tensor, rows: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Log-sum-exps (heads, batch) and readouts (heads, batch, dim) of all rows, for a small batch by several heads."""
    if len(queries) > _SMALL_BATCH:
        return [_one_call(queries, rows, scale, heads=1)]
    even = len(rows) - len(rows) % _HEADS
    parts = [_one_call(queries, rows[:even], scale, heads=_HEADS)] if even else []
    if even < len(rows):
        parts.append(_one_call(queries, rows[even:], scale, heads=1))
    return parts


def _one_call(queries: Tensor, rows: Tensor, scale: Tensor, *, heads: int) -> tuple[Tensor, Tensor]:
    """Each head reads a run of the rows: lse (heads, batch) and readout (heads, batch, dim)."""
    batch, dim = queries.shape
    keys = rows.reshape(1, heads, len(rows) // heads, dim)
    readout, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        queries.expand(1, heads, batch, dim), keys, keys, 0.0, False, scale=float(scale)
    )
    return lse.reshape(heads, batch), readout.reshape(heads, batch, dim)


@cache
def _works() -> bool:
    """Try the operator on a case whose answer is known."""
    queries = torch.tensor([[1.0, 0.0], [0.0, -2.0], [0.5, 0.5]])
    rows = torch.arange(-8.0, 8.0).reshape(8, 2) / 8
    try:
        lse, readout = _one_call(queries, rows, torch.tensor(3.0), heads=1)
    except (RuntimeError, AttributeError, TypeError):
        return False
    logits = 3.0 * queries @ rows.T
    return torch.allclose(lse[0], logits.logsumexp(1), atol=1e-5) and torch.allclose(
        readout[0], logits.softmax(1) @ rows, atol=1e-5
    )
