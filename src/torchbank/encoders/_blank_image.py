"""One blank image through an encoder, so that one that does not fit the data fails now and not hours later."""

from typing import Any

import torch
from torch import nn

from torchbank.encoders._channels import describe_channels
from torchbank.encoders._evaluation_mode import device_of, evaluation_mode
from torchbank.errors import BankValueError

__all__ = ["embed_blank", "first_line"]


def embed_blank(encoder: nn.Module, name: str, image_shape: tuple[int, int, int]) -> Any:
    """Embed one blank image in evaluation mode, which leaves no trace in the encoder.

    Args:
        encoder: What runs.
        name: What the user calls it.
        image_shape: `(c, h, w)`.

    Raises:
        BankValueError: The encoder refuses the image; the message holds its reason.
    """
    blank = torch.zeros(1, *image_shape, device=device_of(encoder))
    with evaluation_mode(encoder), torch.no_grad():
        try:
            return encoder(blank)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, NotImplementedError) as error:
            channels, height, width = image_shape
            msg = (
                f"{name} does not take images of {describe_channels(channels)} and {height} x {width} pixels: "
                f"{first_line(error)}. Choose another encoder or another image size"
            )
            raise BankValueError(msg) from error


def first_line(error: Exception) -> str:
    """What another library's error says, as part of a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
