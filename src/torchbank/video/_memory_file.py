"""A temporal memory in a file: its state, and in the header its sizes and rules."""

import datetime
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torchbank.errors import BankError, FileFormatError
from torchbank.io import dtype_name, dtype_of_name, read_tensors, write_tensors
from torchbank.video._rule import build_rule, describe_rule

if TYPE_CHECKING:
    from torchbank.video.memory import TemporalMemory

KIND = "memory"


def write(memory: "TemporalMemory", path: str | Path) -> None:
    """`TemporalMemory.save`."""
    compress = memory.compress_rule
    header = {
        "kind": KIND,
        "options": {
            "dim": memory.dim,
            "capacity": memory.capacity,
            "streams": memory.streams,
            "metric": memory.metric,
            "gradient_writes": memory.gradient_writes,
        },
        "dtype": dtype_name(memory.dtype),
        "fields": {
            name: [dtype_name(field.dtype), list(field.shape)] for name, field in memory.bank.schema.fields.items()
        },
        "write": [describe_rule(rule) for rule in memory.write_rules],
        "evict": describe_rule(memory.evict_rule),
        "compress": None if compress is None else describe_rule(compress),
        "read": describe_rule(memory.read_rule),
        "counts": {"rows": len(memory), "offered": int(memory.ledger.get_buffer("offered").sum())},
        "versions": {name: importlib.metadata.version(name) for name in ("torchbank", "torch", "safetensors")},
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    write_tensors(path, memory.state_dict(), header)


def load(path: str | Path, *, device: torch.device | str | None = None) -> "TemporalMemory":
    """Read a memory that `TemporalMemory.save` wrote, in the middle of its streams or not; it goes on exactly there.

    Args:
        path: The file.
        device: Where the memory goes.

    Returns:
        A memory of the same sizes and rules. Rules of your own must have been defined (imported) before.

    Raises:
        BankFileNotFoundError: There is no such file.
        FileFormatError: The file is damaged, holds no memory, or names a rule that is not defined.

    Example:
        >>> import tempfile, torch
        >>> from torchbank import video
        >>> memory = video.TemporalMemory(4, capacity=8)
        >>> _ = memory.write(torch.eye(4), torch.arange(4.0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     memory.save(f"{folder}/memory.safetensors")
        ...     len(video.load(f"{folder}/memory.safetensors"))
        4
    """
    tensors, header = read_tensors(path)
    if header.get("kind") != KIND:
        msg = f"{path} was written by torchbank but holds no temporal memory, but: {header.get('kind')}"
        raise FileFormatError(msg)
    memory = _build(path, header, device)
    try:
        memory.load_state_dict(tensors)
    except (BankError, RuntimeError) as error:
        msg = f"{path} holds tensors that do not fit its header: {error}"
        raise FileFormatError(msg) from error
    return memory


def _build(path: str | Path, header: dict[str, Any], device: torch.device | str | None) -> "TemporalMemory":
    from torchbank.video.memory import TemporalMemory

    try:
        return TemporalMemory(
            **header["options"],
            dtype=dtype_of_name(header["dtype"]),
            fields={name: (dtype_of_name(dtype), tuple(shape)) for name, (dtype, shape) in header["fields"].items()},
            write=tuple(build_rule(rule) for rule in header["write"]),
            evict=build_rule(header["evict"]),
            compress=None if header["compress"] is None else build_rule(header["compress"]),
            read=build_rule(header["read"]),
            device=device,
        )
    except FileFormatError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path} has a header that does not describe a temporal memory: {error}"
        raise FileFormatError(msg) from error
