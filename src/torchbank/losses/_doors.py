"""What every loss checks and switches at its door."""

import torch
from torch import Tensor

from torchbank.errors import BankTypeError, BankValueError


def check_embeddings(word: str, embeddings: Tensor) -> None:
    """Raise unless ``embeddings`` is floating and (batch, dim).

    Raises:
        BankTypeError: The dtype is not floating.
        BankValueError: The shape does not fit.
    """
    check_floating(word, embeddings)
    if embeddings.ndim != 2:
        msg = f"{word} have shape {tuple(embeddings.shape)}; expected (batch, dim)"
        raise BankValueError(msg)


def check_floating(word: str, embeddings: Tensor) -> None:
    """Raise unless ``embeddings`` is floating.

    Raises:
        BankTypeError: The dtype is not.
    """
    if not embeddings.is_floating_point():
        msg = f"{word} have dtype {embeddings.dtype}; expected a floating dtype, so pass the encoder's output"
        raise BankTypeError(msg)


def check_same_shape(queries: Tensor, positives: Tensor) -> None:
    """Raise unless there is one positive for every query.

    Raises:
        BankValueError: The shapes differ.
    """
    if queries.shape != positives.shape:
        msg = (
            f"positives have shape {tuple(positives.shape)}; expected {tuple(queries.shape)}, one positive for every "
            "query"
        )
        raise BankValueError(msg)


def check_lengths(queries: Tensor, **values: Tensor | None) -> None:
    """Raise unless each of ``values`` that is given holds one value a query.

    Raises:
        BankValueError: A shape does not fit.
    """
    for word, tensor in values.items():
        if tensor is not None and tensor.shape != queries.shape[:1]:
            expected = f"({queries.shape[0]},), one for every query"
            msg = f"{word} have shape {tuple(tensor.shape)}; expected {expected}"
            raise BankValueError(msg)


def as_scale(temperature: float | Tensor) -> float | Tensor:
    """``1 / temperature``, differentiable where the temperature is a tensor.

    Raises:
        BankValueError: A number that is not above 0, or a tensor of more than one value.
    """
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1:
            msg = f"temperature has shape {tuple(temperature.shape)}; expected a number or a 0-d tensor"
            raise BankValueError(msg)
        return temperature.reshape(()).reciprocal()
    if not temperature > 0:
        msg = f"temperature={temperature}; expected a number above 0"
        raise BankValueError(msg)
    return 1.0 / temperature


def widened(embeddings: Tensor) -> Tensor:
    """In float32 at least. Once, at the door: gradients of several reads are then summed before rounding."""
    return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Autocast off: a loss of fewer bits is no loss to train with."""
    return torch.autocast(tensor.device.type, enabled=False)
