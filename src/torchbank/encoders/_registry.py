"""Encoders by name."""

from pathlib import Path

from torch import nn

from torchbank.encoders._convnet import ConvNet
from torchbank.errors import BankKeyError

__all__ = ["build"]


def build(name: str, *, dim: int, image_shape: tuple[int, int, int], weights: str | Path | None = None) -> nn.Module:
    """Build an encoder: images `(b, c, h, w)` to embeddings `(b, dim)` that are not normalised."""
    if name == "convnet":
        return ConvNet(dim, channels=image_shape[0])
    msg = f"unknown encoder {name!r}"
    raise BankKeyError(msg)
