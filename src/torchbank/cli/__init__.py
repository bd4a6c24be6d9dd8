"""The command `torchbank`."""

from torchbank.cli._main import main

__all__ = ["main"]
