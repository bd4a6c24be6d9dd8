"""One file format for everything that is remembered: safetensors with a JSON header, written whole or not at all.

`save` and `load` write and read banks. `write_tensors`, `read_tensors` and `read_header` are the format itself,
`atomic_write` and `write_json` the way to put any file in place. Nothing here pickles.
"""

from torchbank.banks import Bank
from torchbank.io._atomic import atomic_write, write_json
from torchbank.io._bank_file import describe, load, save, write_bank
from torchbank.io._dtype_names import dtype_name, dtype_of_name
from torchbank.io._tensor_file import read_header, read_tensors, write_pieces, write_tensors

__all__ = [
    "atomic_write",
    "describe",
    "dtype_name",
    "dtype_of_name",
    "load",
    "read_header",
    "read_tensors",
    "save",
    "write_json",
    "write_pieces",
    "write_tensors",
]

Bank._writer = write_bank
