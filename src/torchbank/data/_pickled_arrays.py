"""Pickles of plain containers and arrays of bytes, read without running anything that they name.

A pickle may name any function and have it called. This unpickler knows the three names by which NumPy pickles an
array, in their place it builds inert records, and it refuses every other name.
"""

import io
import pickle
from typing import Any

import numpy as np

from torchbank.errors import FileFormatError

__all__ = ["read_pickle"]


def read_pickle(content: bytes, file: str) -> dict[str, Any]:
    """Read a pickled dictionary, as Python 2 or 3 wrote it.

    Args:
        content: The pickle.
        file: What the message of an error calls it.

    Returns:
        The dictionary; its arrays, of unsigned bytes all of them, are NumPy arrays, its strings are `str`.

    Raises:
        FileFormatError: It is truncated, holds something else than a dictionary, names something else than an array,
            or an array is not of unsigned bytes.
    """
    try:
        loaded = _ArrayUnpickler(io.BytesIO(content), encoding="latin-1").load()
    except (
        pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError
    ) as error:  # fmt: skip
        msg = f"cannot read {file} ({error}); expected a pickle of containers and arrays only: fetch it again"
        raise FileFormatError(msg) from error
    if not isinstance(loaded, dict):
        msg = f"{file} holds a {type(loaded).__name__}; expected a pickled dictionary"
        raise FileFormatError(msg)
    return {
        str(key): value.as_array(file) if isinstance(value, _PickledArray) else value for key, value in loaded.items()
    }


class _PickledType:
    """In the place of `numpy.dtype`: the code it was made with, such as "u1"."""

    def __init__(self, code: str = "", *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like: nothing that one byte has."""


class _PickledArray:
    """In the place of `numpy.ndarray` and of the function that makes an empty one: the state that fills it."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def as_array(self, file: str) -> np.ndarray:
        match self.state:
            case (_, tuple(shape), _PickledType(code="u1"), fortran, str() | bytes() as content):
                # What Python 2 calls a string, the bytes, arrives as text in latin-1.
                values = np.frombuffer(content.encode("latin-1") if isinstance(content, str) else content, np.uint8)
                if values.size == np.prod(shape):
                    return values.reshape(shape, order="F" if fortran else "C").copy()
        msg = f"an array in {file} is not of unsigned bytes, or not whole; expected images: fetch it again"
        raise FileFormatError(msg)


# NumPy 1 and 2 keep the function in differently named modules.
_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledType,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in _KNOWN:
            msg = f"it names {module}.{name}, which is not run"
            raise pickle.UnpicklingError(msg)
        return _KNOWN[module, name]
