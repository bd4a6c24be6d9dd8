"""Files that appear whole or not at all."""

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torchbank.errors import BankFileNotFoundError, BankValueError


def atomic_write(path: str | Path, content: bytes | Callable[[Path], object]) -> None:
    """Put a file in place in one step.

    The content goes to a file of another name in the same folder, is forced to the disk, and takes the name only
    then: whoever opens ``path``, even after a crash in the middle, finds the old content or the new.

    Args:
        path: The file; through a link, the file that it points to. Its folder must exist.
        content: The bytes, or a function that writes the file whose path it is given.

    Raises:
        BankFileNotFoundError: The folder does not exist.
        BankValueError: ``path`` is a folder.

    Example:
        >>> import pathlib, tempfile
        >>> from torchbank.io import atomic_write
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     atomic_write(pathlib.Path(folder, "note.txt"), b"remembered")
        ...     [entry.name for entry in pathlib.Path(folder).iterdir()]
        ['note.txt']
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():
        msg = f"{path} is a folder; name a file in it"
        raise BankValueError(msg)
    if not path.parent.is_dir():
        msg = f"cannot write {path}: the folder {path.parent} does not exist; create it first"
        raise BankFileNotFoundError(msg)
    # Hidden, so that a reader that lists the folder does not take a half-written file for a finished one.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        temporary.touch(exist_ok=False)
        permissions = temporary.stat().st_mode
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            content(temporary)
        # safetensors puts a file there that only its owner may read.
        temporary.chmod(permissions)
        _to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    # The new name itself is an entry of the folder.
    if os.name == "posix":
        _to_disk(path.parent)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON, indented, as `atomic_write` does.

    Args:
        path: The file.
        content: What JSON can hold; nothing is written if it holds anything else, NaN and inf included.

    Raises:
        BankFileNotFoundError: The folder does not exist.
        BankValueError: ``path`` is a folder.
        TypeError: JSON cannot hold the content.
        ValueError: The content holds NaN or inf.
    """
    text = json.dumps(content, indent=2, allow_nan=False)
    atomic_write(path, f"{text}\n".encode())


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
