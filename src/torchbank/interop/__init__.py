"""Losses of other libraries, over a bank."""

from torchbank.interop._pml import pml

__all__ = ["pml"]
