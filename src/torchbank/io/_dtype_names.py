"""Dtypes in the headers of files."""

import torch


def dtype_name(dtype: torch.dtype) -> str:
    """Its name, such as ``"float32"``."""
    return str(dtype).removeprefix("torch.")


def dtype_of_name(name: str) -> torch.dtype:
    """The dtype of a name.

    Raises:
        TypeError: There is none; who reads a file says which one is damaged.
    """
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        msg = f"unknown dtype {name!r}"
        raise TypeError(msg)
    return dtype
