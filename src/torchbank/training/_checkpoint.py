"""A checkpoint folder that a crash at any moment leaves readable.

The new checkpoint is written beside the old one and changes places with it by two renames:

====  ==================================  ==========================================
 1    write ``checkpoint.new``            ``checkpoint`` is whole
 2    ``checkpoint`` -> ``checkpoint.old``    ``checkpoint.new`` and ``.old`` are whole
 3    ``checkpoint.new`` -> ``checkpoint``    ``checkpoint`` is whole
 4    remove ``checkpoint.old``           ``checkpoint`` is whole
====  ==================================  ==========================================

A reader that finds no ``checkpoint`` was left between 2 and 3 and takes ``checkpoint.new``.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torchbank.errors import BankStateError, FileFormatError
from torchbank.io import read_tensors, write_tensors
from torchbank.training._packing import pack, unpack

_FORMAT = "torchbank training checkpoint, version 1"


def _nobody_to_wait_for() -> None:
    """One process waits for no other."""


def save_checkpoint(
    path: Path,
    state: dict[str, Any],
    *,
    rank: int = 0,
    ranks: int = 1,
    wait: Callable[[], None] = _nobody_to_wait_for,
) -> None:
    """Replace a checkpoint by a newer one.

    Args:
        path: The checkpoint folder; ``.new`` and ``.old`` beside it are used meanwhile.
        state: What `torchbank.training.pack` takes.
        rank: Which process this is: each writes its own file.
        ranks: How many processes there are.
        wait: Called between the stages, to wait for the other processes.
    """
    new = _beside(path, "new")
    if rank == 0:
        recover_checkpoint(path)
        _remove(new)
        new.mkdir()
    wait()
    tensors, form = pack(state)
    write_tensors(new / _file_name(rank), tensors, {"format": _FORMAT, "ranks": ranks, "state": form})
    wait()
    if rank == 0:
        _exchange(path, new)
    wait()


def load_checkpoint(
    path: Path, *, rank: int = 0, ranks: int = 1, wait: Callable[[], None] = _nobody_to_wait_for
) -> dict[str, Any] | None:
    """Read the newest whole checkpoint.

    Args:
        path: The checkpoint folder.
        rank: Which process this is.
        ranks: How many processes there are.
        wait: Waits for the other processes.

    Returns:
        The state, or None where no checkpoint was ever finished.

    Raises:
        BankStateError: It was written by another number of processes.
        FileFormatError: It is damaged or foreign.
    """
    if rank == 0:
        recover_checkpoint(path)
    wait()
    if not path.is_dir():
        return None
    file = path / _file_name(rank)
    if not file.is_file():
        msg = f"the checkpoint {path} has no file for process {rank}; resume with as many as wrote it"
        raise BankStateError(msg)
    tensors, header = read_tensors(file)
    if header.get("format") != _FORMAT:
        msg = f"{file} is not a training checkpoint of this torchbank; remove {path} to start the run again"
        raise FileFormatError(msg)
    if header["ranks"] != ranks:
        msg = f"the checkpoint {path} is of {header['ranks']} processes; resume with as many, not {ranks}"
        raise BankStateError(msg)
    return unpack(tensors, header["state"])


def recover_checkpoint(path: Path) -> None:
    """Finish an exchange that a crash interrupted; see the table above."""
    new, old = _beside(path, "new"), _beside(path, "old")
    if not path.exists() and old.exists():
        # The old one leaves its place only after the new one is whole.
        new.rename(path)
        _sync_folder(path.parent)
    if path.exists():
        _remove(old)


def _exchange(path: Path, new: Path) -> None:
    old = _beside(path, "old")
    _sync_folder(new)
    if path.exists():
        path.rename(old)
    new.rename(path)
    _sync_folder(path.parent)
    _remove(old)


def _file_name(rank: int) -> str:
    return f"rank-{rank}.safetensors"


def _beside(path: Path, word: str) -> Path:
    return path.with_name(f"{path.name}.{word}")


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
