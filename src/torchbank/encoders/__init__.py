"""Encoders by name, and the embedding of whole data sets."""

from torchbank.encoders._convnet import ConvNet
from torchbank.encoders._encode import Encoded, encode
from torchbank.encoders._registry import build

__all__ = ["ConvNet", "Encoded", "build", "encode"]
