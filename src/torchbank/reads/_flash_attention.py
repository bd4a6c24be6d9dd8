"""PyTorch's flash attention on a GPU as a bank read: keys = values = bank.

It rounds queries and weights to the rows' dtype, and knows neither masks nor a count. The operator is private, so
everything about it is in this file, and another form is taken where it is missing or speaks otherwise. Its values
are not looked at before its first use, as they are on the CPU: that would wait for the device, and break the capture
of a CUDA graph.
"""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from torchbank.reads._selection import Selection

_WIDEST = 256
# A program of the operator reads one head for so many queries: a bank is cut into heads until they fill the GPU.
_BLOCK = 128
_LEAST_ROWS = 1024


def fits(queries: Tensor, rows: Tensor, selection: Selection, *, fast: bool) -> bool:
    """Whether this read is one that the operator does rightly."""
    dim = rows.shape[1]
    return (
        queries.device.type == "cuda"
        and rows.device == queries.device
        and fast
        and rows.dtype in (torch.bfloat16, torch.float16)
        and queries.dtype == torch.float32
        and len(queries) > 0
        and len(rows) > 0
        and dim % 8 == 0
        and 0 < dim <= _WIDEST
        and rows.is_contiguous()
        and selection.bias is None
        and selection.count is None
        and not selection.exclude
        and not selection.include
        and torch.cuda.get_device_capability(queries.device) >= (8, 0)
        and _speaks()
    )


def attend(
    queries: Float[Tensor, "batch dim"], rows: Float[Tensor, "rows dim"], scale: Float[Tensor, ""]
) -> tuple[Tensor, Tensor]:
    """The log-sum-exp (batch,) and readout (batch, dim) of all rows, each head reading a run of them."""
    scaled = (queries * scale.to(queries.dtype)).to(rows.dtype)
    heads = _heads(len(queries), len(rows), queries.device)
    even = len(rows) - len(rows) % heads
    parts = [_one_call(scaled, rows[:even], heads)]
    if even < len(rows):
        parts.append(_one_call(scaled, rows[even:], 1))
    lse, readout = (torch.cat(values) for values in zip(*parts, strict=True))
    total = lse.logsumexp(dim=0)
    # Not a matrix product, which the user may have allowed to round to tf32.
    return total, ((lse - total).exp()[:, :, None] * readout).sum(dim=0)


def _heads(batch: int, rows: int, device: torch.device) -> int:
    """Two programs for each multiprocessor, but no heads of few rows."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(2 * processors // -(-batch // _BLOCK), rows // _LEAST_ROWS))


def _one_call(queries: Tensor, rows: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Lse (heads, batch) in float32 and readout (heads, batch, dim); the scale is in the queries already."""
    batch, dim = queries.shape
    keys = rows.view(1, heads, len(rows) // heads, dim)
    asked = queries.expand(1, heads, batch, dim)
    readout, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(asked, keys, keys, scale=1.0)
    return lse[0, :, :batch], readout[0]


@cache
def _speaks() -> bool:
    """Whether the operator is there and gives the shapes and dtypes that are used here."""
    if not torch.backends.cuda.is_flash_attention_available():
        return False
    queries, rows = (torch.empty(n, 8, dtype=torch.bfloat16, device="meta") for n in (3, 16))
    try:
        lse, readout = _one_call(queries, rows, heads=2)
    except (RuntimeError, AttributeError, TypeError, IndexError):
        return False
    return lse.shape == (2, 3) and lse.dtype == torch.float32 and readout.shape == (2, 3, 8)
