"""Memory banks for PyTorch."""

from torchbank import errors

__all__ = ["errors"]
__version__ = "0.1.0"
