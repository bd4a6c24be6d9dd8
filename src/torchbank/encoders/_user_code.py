"""Encoders that users bring: a TorchScript file, or a function of their own."""

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from torchbank.errors import BankKeyError, BankTypeError, BankValueError, FileFormatError

__all__ = ["call_function", "load_torchscript"]


def load_torchscript(file: str) -> nn.Module:
    """Load a module saved by `torch.jit.save`.

    Raises:
        BankValueError: There is no such file.
        FileFormatError: It is truncated or no TorchScript file.
    """
    if not Path(file).is_file():
        msg = f"no TorchScript file at {file!r}; expected torchscript:FILE with a module saved by torch.jit.save"
        raise BankValueError(msg)
    try:
        with warnings.catch_warnings():
            # torch advises against writing new files of this kind; it says so of reading too.
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            return torch.jit.load(file, map_location="cpu")
    except (RuntimeError, ValueError) as error:
        msg = f"cannot read {file!r} as TorchScript; expected a module saved by torch.jit.save"
        raise FileFormatError(msg) from error


def call_function(module: str, function: str, *, dim: int, image_shape: tuple[int, int, int] | None) -> nn.Module:
    """Import `module` and return `function(dim=dim, image_shape=image_shape)`.

    Raises:
        BankValueError: The module cannot be imported.
        BankKeyError: It has no such function.
        BankTypeError: The function returns something other than an `nn.Module`.
    """
    try:
        with _working_folder_first():
            imported = importlib.import_module(module)
    except ImportError as error:
        msg = f"cannot import {module!r} for the encoder {module}:{function} ({error}); expected an importable module"
        raise BankValueError(msg) from error
    if not hasattr(imported, function):
        msg = f"module {module!r} has no {function!r}; expected a function of dim and image_shape that returns a module"
        raise BankKeyError(msg)
    encoder = getattr(imported, function)(dim=dim, image_shape=image_shape)
    if not isinstance(encoder, nn.Module):
        msg = f"{module}:{function} returned {type(encoder).__name__}; expected a torch.nn.Module"
        raise BankTypeError(msg)
    return encoder


@contextmanager
def _working_folder_first() -> Iterator[None]:
    # A console script does not search the working folder, but that is where a user's model.py lies.
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
