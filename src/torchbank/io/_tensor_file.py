"""The file format: safetensors, with a JSON header in its metadata.

The metadata entry `torchbank` is ``{"format": 1, "header": {...}}``; a file without it is not ours. Other tools
read the tensors as those of any safetensors file.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from torchbank.errors import BankFileNotFoundError, FileFormatError
from torchbank.io._atomic import atomic_write
from torchbank.reads import passing

FORMAT = 1
METADATA_KEY = "torchbank"
DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""How safetensors calls the dtypes."""


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write named tensors and a header to one file, whole or not at all.

    Args:
        path: The file, which is replaced if it exists. Its folder must exist.
        tensors: Dense tensors of any shape, dtype and device, by name; may share memory.
        header: What JSON can hold.

    Raises:
        BankFileNotFoundError: The folder does not exist.
        TypeError: JSON cannot hold the header.

    Example:
        >>> import tempfile, torch
        >>> from torchbank.io import read_tensors, write_tensors
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_tensors(f"{folder}/means", {"mean": torch.ones(2)}, {"classes": 10})
        ...     read_tensors(f"{folder}/means")
        ({'mean': tensor([1., 1.])}, {'classes': 10})
    """
    plain = _without_shared_memory(tensors)
    metadata = {METADATA_KEY: _envelope(header)}
    atomic_write(path, lambda temporary: save_file(plain, temporary, metadata))


def write_pieces(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    pieces: Callable[[str], Iterable[Tensor]],
    header: Mapping[str, Any],
) -> None:
    """`write_tensors` for tensors that no one holds as a whole.

    Args:
        path: The file, which is replaced if it exists. Its folder must exist.
        tensors: What each will be, as tensors on the device ``meta``, in the order in which they are written: the
            largest numbers first, or readers find them out of alignment.
        pieces: ``pieces(name)`` gives the parts of a tensor along its first axis, first to last.
        header: What JSON can hold.

    Raises:
        BankFileNotFoundError: The folder does not exist.
        TypeError: JSON cannot hold the header.
        KeyError: The format has no name for a dtype.
    """
    contents: dict[str, Any] = {"__metadata__": {METADATA_KEY: _envelope(header)}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        shape, dtype = list(tensor.shape), DTYPE_NAMES[tensor.dtype]
        contents[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(contents).encode()
    text += b" " * (-len(text) % 8)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in tensors:
                for piece in pieces(name):
                    piece.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tofile(file)

    atomic_write(path, write)


def read_tensors(path: str | Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of `write_tensors`.

    On the CPU the tensors are the mapped file itself: what is not looked at is not read.

    Args:
        path: The file.
        device: Where the tensors go.

    Returns:
        The tensors by name, and the header.

    Raises:
        BankFileNotFoundError: There is no such file.
        FileFormatError: The file is truncated, not of this format, or of a newer version of it.
    """
    with _opened(path, device) as file:
        header = _header(path, file.metadata())
        return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 - not a mapping


def copy_column(path: str | Path, name: str, target: Tensor) -> None:
    """Copy a tensor of a file into one of the same shape and dtype, holding a part of it at a time.

    Args:
        path: The file.
        name: Of the tensor.
        target: ``(rows, ...)``, on any device; may be a column of a mapped file.
    """
    for run in passing(target):
        # Opened again for each part, as what safetensors has mapped stays in memory until it is closed.
        with _opened(path, "cpu") as file:
            target[run].copy_(file.get_slice(name)[run])


def read_header(path: str | Path) -> dict[str, Any]:
    """The header of a file of `write_tensors`, without reading its tensors.

    Args:
        path: The file.

    Raises:
        BankFileNotFoundError: There is no such file.
        FileFormatError: The file is truncated, not of this format, or of a newer version of it.
    """
    with _opened(path, "cpu") as file:
        return _header(path, file.metadata())


@contextmanager
def _opened(path: str | Path, device: torch.device | str) -> Iterator[Any]:
    path = Path(path)
    if path.is_dir():
        msg = f"{path} is a folder; expected a file written by torchbank"
        raise FileFormatError(msg)
    if not path.exists():
        msg = f"there is no file {path}"
        raise BankFileNotFoundError(msg)
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            yield file
    except SafetensorError as error:
        msg = f"{path} is truncated or not a torchbank file ({error})"
        raise FileFormatError(msg) from error


def _envelope(header: Mapping[str, Any]) -> str:
    return json.dumps({"format": FORMAT, "header": dict(header)})


def _header(path: str | Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    text = (metadata or {}).get(METADATA_KEY)
    if text is None:
        msg = f"{path} is a safetensors file that torchbank did not write; expected one from bank.save"
        raise FileFormatError(msg)
    try:
        envelope = json.loads(text)
        version, header = envelope["format"], envelope["header"]
    except (ValueError, TypeError, KeyError) as error:
        msg = f"{path} has a header that cannot be read"
        raise FileFormatError(msg) from error
    if version != FORMAT or not isinstance(header, dict):
        msg = f"{path} is of format version {version}; this torchbank reads version {FORMAT}, so update torchbank"
        raise FileFormatError(msg)
    return header


def _without_shared_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors of which no two share memory, which safetensors refuses."""
    plain, seen = {}, set()
    for name, tensor in tensors.items():
        alone = tensor.detach().contiguous()
        memory = alone.untyped_storage().data_ptr()
        plain[name] = alone.clone() if memory in seen else alone
        seen.add(memory)
    return plain
