"""What every read checks and switches at its door."""

from typing import Literal

import torch
from torch import Tensor

from torchbank.errors import BankTypeError, BankValueError
from torchbank.reads._selection import Selection

Impl = Literal["auto", "reference", "blocked", "triton"]
Precision = Literal["exact", "fast"]


def check_tensors(queries: Tensor, rows: Tensor, selection: Selection | None = None) -> None:
    """Raise unless ``queries`` (batch, dim) and ``rows`` (rows, dim) fit each other.

    Rows on the host fit queries on any device if the selection says that they are offloaded.

    Raises:
        BankTypeError: One of them is not floating.
        BankValueError: A shape or the device does not fit.
    """
    for word, tensor in (("queries", queries), ("rows", rows)):
        if not tensor.is_floating_point():
            msg = f"{word} have dtype {tensor.dtype}; expected a floating dtype, so convert them, as in {word}.float()"
            raise BankTypeError(msg)
        if tensor.ndim != 2:
            msg = f"{word} have shape {tuple(tensor.shape)}; expected two axes, ({word}, dim)"
            raise BankValueError(msg)
    if queries.shape[1] != rows.shape[1]:
        msg = f"queries have dim {queries.shape[1]} but the rows have dim {rows.shape[1]}; encode both alike"
        raise BankValueError(msg)
    offloaded = selection is not None and selection.offloaded and rows.device.type == "cpu"
    if queries.device != rows.device and not offloaded:
        msg = f"queries are on {queries.device} but the rows are on {rows.device}; move one of them"
        raise BankValueError(msg)


def as_scale(scale: float | Tensor, queries: Tensor) -> Tensor:
    """The scale as a 0-d tensor on the queries' device.

    Raises:
        BankValueError: A tensor with more than one value, or on another device.
    """
    if not isinstance(scale, Tensor):
        return torch.full((), scale, dtype=torch.promote_types(torch.float32, queries.dtype), device=queries.device)
    if scale.numel() != 1:
        msg = f"scale has shape {tuple(scale.shape)}; expected a number or a tensor of one value"
        raise BankValueError(msg)
    if scale.device != queries.device:
        msg = f"scale is on {scale.device} but the queries are on {queries.device}; move it"
        raise BankValueError(msg)
    return scale.reshape(())


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Autocast off: a read chooses its own precision."""
    return torch.autocast(tensor.device.type, enabled=False)
