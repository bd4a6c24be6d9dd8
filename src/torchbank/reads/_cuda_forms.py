"""Which form of a read runs: the one that was asked for, and on a GPU the one that `auto` takes.

The choice for a GPU is reasoned and not yet measured; these three functions are the only place that makes it.

- The Triton kernels read each row once and keep no scores. Up to 256 values a row, one program holds the sums of its
  queries; wider rows go through matrix products of PyTorch, block by block, which are then bound by arithmetic.
  `nearest` keeps no sums and takes any width.
- PyTorch's flash attention rounds queries and weights, and knows no masks: for ``precision="fast"`` alone.
- Rows on the host are staged block by block; float64 queries are computed in float64.
"""

from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from torchbank.errors import BankStateError
from torchbank.reads import _flash_attention
from torchbank.reads._pair_function import PairFunction
from torchbank.reads._selection import Selection

Form = Literal["blocked", "flash", "triton"]

_KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# The widest rows whose sums one program holds.
_WIDEST = 256


def attend_form(impl: str, queries: Tensor, rows: Tensor, selection: Selection, *, fast: bool) -> Form:
    """The form of `attend`."""
    if impl == "auto" and _flash_attention.fits(queries, rows, selection, fast=fast):
        return "flash"
    return "triton" if _takes_kernel(impl, queries, rows, selection) and rows.shape[1] <= _WIDEST else "blocked"


def nearest_form(impl: str, queries: Tensor, rows: Tensor, selection: Selection) -> Form:
    """The form of `nearest`."""
    return "triton" if _takes_kernel(impl, queries, rows, selection) else "blocked"


def pair_sum_form(impl: str, queries: Tensor, rows: Tensor, selection: Selection, f: PairFunction) -> Form:
    """The form of `pair_sum`."""
    known = f.closed_form is not None and rows.shape[1] <= _WIDEST
    return "triton" if _takes_kernel(impl, queries, rows, selection) and known else "blocked"


def _takes_kernel(impl: str, queries: Tensor, rows: Tensor, selection: Selection) -> bool:
    """Whether a Triton kernel is asked for, or is the choice of `auto`, and can serve this read.

    Raises:
        BankStateError: ``impl="triton"`` where no kernel can run.
    """
    if impl == "triton":
        _check_triton(queries.device)
    elif impl != "auto" or not _good_gpu(queries.device):
        return False
    return (
        queries.dtype == torch.float32
        and rows.dtype in _KERNEL_DTYPES
        and rows.device == queries.device
        and queries.numel() > 0
        and rows.numel() > 0
        and rows.stride(1) == 1
        and _comparable(selection, queries)
    )


def _comparable(selection: Selection, queries: Tensor) -> bool:
    """Whether a kernel can compare the fields of a selection: real numbers on the queries' device."""
    return all(
        row_values.device == queries.device and not (query_values.is_complex() or row_values.is_complex())
        for clause in (*selection.exclude, *selection.include)
        for query_values, row_values in clause
    )


@cache
def _good_gpu(device: torch.device) -> bool:
    """A GPU whose tensor cores know bfloat16 (compute capability 8.0), with Triton installed."""
    if device.type != "cuda" or torch.version.hip is not None or not _installed():
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


def _check_triton(device: torch.device) -> None:
    if not _installed():
        msg = "impl='triton' needs the package triton, which is not installed; install it, or choose impl='auto'"
        raise BankStateError(msg)
    if device.type != "cuda" and not _interpreted():
        msg = (
            f"impl='triton' needs a GPU, but the queries are on {device}; move bank and queries to one, choose "
            "impl='auto', or set TRITON_INTERPRET=1 before Triton is imported to run kernels slowly on the CPU"
        )
        raise BankStateError(msg)


def _interpreted() -> bool:
    """Whether kernels run in Triton's interpreter."""
    import triton

    return triton.knobs.runtime.interpret
