"""Checkpoints by ``torch.distributed.checkpoint`` that any number of ranks reads.

Each rank saves its rows under a name that tells which part of how many they are. A part is slots rank, rank + ranks,
rank + 2 ranks, ...: a reader knows where each row goes from these two numbers.
"""

import re
import warnings
from pathlib import Path

import torch
from torch import Tensor

from torchbank.banks import Bank
from torchbank.errors import BankFileNotFoundError, BankStateError
from torchbank.sharding._state import parts_of, split_state

_PART = re.compile(r"rows/(?P<rank>\d+) of (?P<ranks>\d+)/(?P<column>.+)")


def checkpoint_state(bank: Bank, prefix: str = "bank.") -> dict[str, Tensor]:
    """What ``torch.distributed.checkpoint`` is given to save of a bank, alone or beside a model's state.

    Give it to ``save``, or to ``async_save``, which copies it before it returns. The latter needs a process group of
    its own (``process_group=torch.distributed.new_group(backend="gloo")``): in that of the bank its messages and those
    of the next push or read would wait for each other. Nothing is copied here.

    Args:
        bank: Local, replicated or sharded. Of banks with the same rows on all ranks one copy is written.
        prefix: Before the names, to tell several banks apart.

    Returns:
        Tensors by name, for `load_checkpoint`.

    Example:
        >>> import torchbank as tb
        >>> sorted(tb.sharding.checkpoint_state(tb.shard(tb.MemoryBank(8, 2))))[-2:]
        ['bank.rows/0 of 1/generations', 'bank.rows/0 of 1/steps']
    """
    columns, common = split_state(bank)
    ranks = parts_of(bank)
    part = f"{prefix}rows/{ranks.rank} of {ranks.size}/"
    named = {f"{part}{name}": column for name, column in columns.items()}
    return named | {f"{prefix}common/{name}": value for name, value in common.items()}


def load_checkpoint(bank: Bank, folder: str | Path, prefix: str = "bank.") -> None:
    """Read what `checkpoint_state` gave to save into a bank of the same capacity, shared in any way by any ranks.

    Each rank reads by itself, a column of a part at a time, and keeps its rows: all of those that were saved are read
    by every rank. These files are those of PyTorch, which pickles: load what you trust.

    Args:
        bank: Built as the one that was saved.
        folder: The ``checkpoint_id``.
        prefix: As it was saved.

    Raises:
        BankFileNotFoundError: There is no checkpoint.
        BankStateError: It holds no such bank, or one of another capacity, dim or metric or of other fields; the bank
            is as it was.
    """
    saved = _saved_shapes(folder, prefix)
    columns, common = split_state(bank)
    parts = _check(bank, saved, columns, common)
    values = {name: torch.empty_like(value) for name, value in common.items()}
    _read(folder, {f"{prefix}common/{name}": value for name, value in values.items()})
    if int(values["metric_code"]) != int(common["metric_code"]):
        msg = f"the checkpoint {folder} is of a bank with another metric than {bank.metric!r}; build it with that"
        raise BankStateError(msg)
    own = parts_of(bank)
    for name, column in columns.items():
        for part in range(parts):
            key = f"rows/{part} of {parts}/{name}"
            rows = torch.empty(saved[key], dtype=column.dtype)
            _read(folder, {prefix + key: rows})
            slots = torch.arange(len(rows)) * parts + part
            mine = (slots % own.size == own.rank).nonzero().squeeze(1)
            places = (slots[mine] // own.size).to(column.device)
            column.index_copy_(0, places, rows[mine].to(column.device))
    for name, value in common.items():
        value.copy_(values[name])


def _saved_shapes(folder: str | Path, prefix: str) -> dict[str, torch.Size]:
    """Shapes by name of what a checkpoint holds under the prefix."""
    from torch.distributed.checkpoint import FileSystemReader

    if not (Path(folder) / ".metadata").is_file():
        msg = f"there is no finished checkpoint in {folder}; save with torch.distributed.checkpoint first"
        raise BankFileNotFoundError(msg)
    entries = FileSystemReader(folder).read_metadata().state_dict_metadata
    return {
        name.removeprefix(prefix): getattr(entry, "size", torch.Size())
        for name, entry in entries.items()
        if name.startswith(prefix)
    }


def _check(bank: Bank, saved: dict[str, torch.Size], columns: dict[str, Tensor], common: dict[str, Tensor]) -> int:
    """The number of parts, once everything is known to fit."""
    found = [match for match in map(_PART.fullmatch, saved) if match]
    parts = int(found[0]["ranks"]) if found else 0
    names = {match["column"] for match in found} | {name for name in saved if name.startswith("common/")}
    expected = {*columns, *(f"common/{name}" for name in common)}
    if names != expected:
        differing = ", ".join(sorted(names ^ expected))
        msg = (
            f"the checkpoint and this {type(bank).__name__} do not have the same tensors ({differing}); build it alike"
        )
        raise BankStateError(msg)
    for name, column in columns.items():
        shapes = [saved[f"rows/{part} of {parts}/{name}"] for part in range(parts)]
        rows = sum(shape[0] for shape in shapes)
        if rows != bank.capacity or any(shape[1:] != column.shape[1:] for shape in shapes):
            msg = (
                f"{name} in the checkpoint has {rows} rows of shape {tuple(shapes[0][1:])}; expected {bank.capacity} "
                f"of {tuple(column.shape[1:])}. Build the bank alike; bank.load_state_dict changes the capacity"
            )
            raise BankStateError(msg)
    return parts


def _read(folder: str | Path, tensors: dict[str, Tensor]) -> None:
    from torch.distributed import checkpoint

    with warnings.catch_warnings():
        # That each rank reads by itself is meant.
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        checkpoint.load(tensors, checkpoint_id=folder, no_dist=True)
