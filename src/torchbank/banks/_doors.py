"""What a bank checks at its doors, before anything changes."""

from collections.abc import Iterable

import torch
from torch import Tensor

from torchbank.errors import BankTypeError, BankValueError

METRICS = ("cosine", "dot", "euclidean")


def check_size(what: str, size: int) -> None:
    """Raise unless ``size`` is a positive integer."""
    if isinstance(size, bool) or not isinstance(size, int):
        msg = f"{what} is {size!r}; expected a positive int"
        raise BankTypeError(msg)
    if size < 1:
        msg = f"{what} is {size}; expected at least 1"
        raise BankValueError(msg)


def check_metric(metric: str) -> None:
    """Raise unless the metric is known."""
    if metric not in METRICS:
        msg = f"metric is {metric!r}; expected one of {listed(METRICS)}"
        raise BankValueError(msg)


def check_embeddings(embeddings: Tensor, dim: int, device: torch.device, what: str = "embeddings") -> None:
    """Raise unless ``embeddings`` is floating, ``(batch, dim)`` and on the bank's device."""
    if not isinstance(embeddings, Tensor):
        msg = f"{what} is a {type(embeddings).__name__}; expected a tensor of shape (batch, {dim})"
        raise BankTypeError(msg)
    if embeddings.ndim != 2 or embeddings.shape[1] != dim:
        msg = f"{what} has shape {tuple(embeddings.shape)}; expected (batch, {dim}), the dim of the bank"
        raise BankValueError(msg)
    if not embeddings.is_floating_point():
        msg = f"{what} has dtype {embeddings.dtype}; expected a floating dtype, convert with .float()"
        raise BankTypeError(msg)
    check_device(what, embeddings, device)


def check_device(what: str, values: Tensor, device: torch.device) -> None:
    """Raise unless ``values`` lies where the bank does."""
    if values.device != device:
        msg = f"{what} is on {values.device} and the bank on {device}; move one of them with .to(...)"
        raise BankValueError(msg)


def check_step(step: int | Tensor | None) -> None:
    """Raise unless ``step`` is an integer, as int or 0-d tensor, or None."""
    if isinstance(step, Tensor):
        if step.ndim != 0 or step.is_floating_point() or step.is_complex() or step.dtype == torch.bool:
            msg = f"step is a {step.dtype} tensor of shape {tuple(step.shape)}; expected an int or a 0-d integer tensor"
            raise BankTypeError(msg)
    elif step is not None and (isinstance(step, bool) or not isinstance(step, int)):
        msg = f"step is {step!r}; expected an int or a 0-d integer tensor"
        raise BankTypeError(msg)


def check_int64(what: str, values: Tensor) -> None:
    """Raise unless ``values`` is an int64 tensor."""
    if not isinstance(values, Tensor) or values.dtype != torch.int64:
        given = values.dtype if isinstance(values, Tensor) else type(values).__name__
        msg = f"{what} is {given}; expected an int64 tensor"
        raise BankTypeError(msg)


def check_below(what: str, slots: Tensor, capacity: int) -> None:
    """Raise if a slot is ``capacity`` or more, where reading it neither waits for a device nor breaks a graph."""
    readable = slots.is_cpu and not torch.compiler.is_compiling() and slots.numel() > 0
    if readable and slots.max() >= capacity:
        msg = f"{what} holds {int(slots.max())}; expected less than the capacity, {capacity}"
        raise BankValueError(msg)


def check_handles(slots: Tensor, generations: Tensor, rows: int, capacity: int) -> None:
    """Raise unless both are int64, one a row, and the slots exist, where that can be read."""
    for word, given in (("slots", slots), ("generations", generations)):
        check_int64(word, given)
        if given.shape != (rows,):
            msg = f"{word} has shape {tuple(given.shape)}; expected ({rows},), one for each row of embeddings"
            raise BankValueError(msg)
    check_below("slots", slots, capacity)


def listed(names: Iterable[str]) -> str:
    """Names as they read in a message."""
    return ", ".join(repr(name) for name in names)
