"""One blank image, or text, through an encoder, so that one that does not fit the data fails now, not hours later."""

from typing import Any

import torch
from torch import nn

from torchbank.encoders._channels import describe_channels
from torchbank.encoders._evaluation_mode import device_of, evaluation_mode
from torchbank.errors import BankValueError

__all__ = ["embed_blank", "first_line"]


def embed_blank(encoder: nn.Module, name: str, image_shape: tuple[int, int, int] | None) -> Any:
    """Embed one blank image, or text, in evaluation mode, which leaves no trace in the encoder.

    Args:
        encoder: What runs.
        name: What the user calls it.
        image_shape: `(c, h, w)`, or None for tokens `(1, length)`.

    Raises:
        BankValueError: The encoder refuses it; the message holds its reason.
    """
    device = device_of(encoder)
    if image_shape is None:
        blank = torch.zeros(1, 1, dtype=torch.int64, device=device)
    else:
        blank = torch.zeros(1, *image_shape, device=device)
    with evaluation_mode(encoder), torch.no_grad():
        try:
            return encoder(blank)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, NotImplementedError) as error:
            msg = f"{name} does not take {_describe(image_shape)}: {first_line(error)}. Choose another encoder"
            raise BankValueError(msg if image_shape is None else f"{msg} or another image size") from error


def _describe(image_shape: tuple[int, int, int] | None) -> str:
    if image_shape is None:
        return "texts, int64 tokens (batch, length)"
    channels, height, width = image_shape
    return f"images of {describe_channels(channels)} and {height} x {width} pixels"


def first_line(error: Exception) -> str:
    """What another library's error says, as part of a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
