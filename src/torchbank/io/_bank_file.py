"""A bank in a file: its state, and in the header what it takes to build the same bank again."""

import datetime
import functools
import importlib.metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchbank.banks import Bank, parse_storage
from torchbank.errors import BankError, FileFormatError
from torchbank.io._dtype_names import dtype_name, dtype_of_name
from torchbank.io._tensor_file import copy_column, read_tensors, write_tensors
from torchbank.reads import release

KIND = "bank"
READERS = {
    "gallery": "torchbank.tracking.IdentityGallery.load",
    "memory": "torchbank.video.load",
    "feature bank": "torchbank.video.FeatureBank.load",
}
"""What reads files of another kind."""


def save(bank: Bank, path: str | Path, *, encoder: str | None = None, data: str | None = None) -> None:
    """Write a bank to one file: also as ``bank.save(path)``.

    The header of the file (`read_header`) tells the class and its options, capacity, dim, metric, dtype and fields,
    counts and the range of stamps, both fingerprints, the versions of torchbank and torch, and the time.

    No copy is made of rows in host memory or in a mapped file. Of the latter all pages count as memory of the process
    until the file is written; the system may take them back at any time.

    Args:
        bank: Any bank.
        path: The file, which is replaced as a whole or not at all. Its folder must exist.
        encoder: A fingerprint of what made the embeddings, such as a commit and a checksum of the weights.
        data: A fingerprint of what was embedded.

    Raises:
        BankFileNotFoundError: The folder does not exist.

    Example:
        >>> import tempfile, torch, torchbank as tb
        >>> bank = tb.MemoryBank(8, 2, metric="dot")
        >>> _ = bank.push(torch.tensor([[1.0, 2.0]]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     bank.save(f"{folder}/bank.safetensors", encoder="resnet18@3f2a")
        ...     tb.load(f"{folder}/bank.safetensors").view().embeddings
        tensor([[1., 2.]])
    """
    bank.save(path, encoder=encoder, data=data)


def write_bank(bank: Bank, path: str | Path, *, encoder: str | None, data: str | None) -> None:
    """`save` for a bank whose rows are all here."""
    write_tensors(path, bank.state_dict(), describe(bank, encoder, data))
    release(bank.embeddings)


def load(path: str | Path, *, device: torch.device | str | None = None, storage: str | Path = "module") -> Bank:
    """Read a bank that `save` wrote, 64 MB at a time; it goes on exactly where that one was.

    Args:
        path: The file.
        device: Where the bank goes; None is the default device of torch.
        storage: Where its rows go, as for `torchbank.MemoryBank`: the file does not tell where they lay.

    Returns:
        A bank of the class that was saved. A class of your own must have been defined (imported) before.

    Raises:
        BankFileNotFoundError: There is no such file.
        FileFormatError: The file is truncated, not a bank, of a newer format, or of a class that is not defined.
        BankFileExistsError: ``storage`` is a path that is taken.
        BankFileError: The file of ``storage`` cannot be created, or there is no space for it.
    """
    storage = parse_storage(storage)
    tensors, header = read_tensors(path)
    if header.get("kind") != KIND:
        reader = READERS.get(header.get("kind", ""), "torchbank.io.read_tensors")
        msg = f"{path} was written by torchbank but holds no bank; read it with {reader}"
        raise FileFormatError(msg)
    bank = _build(path, header, tensors, device, storage)
    try:
        _fill(bank, path, tensors)
    except BaseException:
        if isinstance(storage, Path):
            storage.unlink(missing_ok=True)
        raise
    return bank


def _fill(bank: Bank, path: str | Path, tensors: dict[str, Tensor]) -> None:
    for name, column in bank.named_buffers(recurse=False):
        given = tensors.get(name)
        if given is not None and column.ndim > 0 and (given.shape, given.dtype) == (column.shape, column.dtype):
            copy_column(path, name, column)
            tensors[name] = column
    try:
        bank.load_state_dict(tensors)
    except (BankError, RuntimeError) as error:
        msg = f"{path} holds tensors that do not fit its header: {error}"
        raise FileFormatError(msg) from error


def describe(bank: Bank, encoder: str | None, data: str | None) -> dict[str, Any]:
    """The header of a bank's file.

    Args:
        bank: The bank.
        encoder: A fingerprint of what made the embeddings.
        data: A fingerprint of what was embedded.
    """
    schema = bank.schema
    return {
        "kind": KIND,
        "class": type(bank).__name__,
        "options": bank.options(),
        "schema": {
            "capacity": schema.capacity,
            "dim": schema.dim,
            "metric": schema.metric,
            "dtype": dtype_name(schema.dtype),
            "fields": {
                name: {"dtype": dtype_name(field.dtype), "shape": list(field.shape)}
                for name, field in schema.fields.items()
            },
        },
        "counts": {
            "rows": len(bank),
            "total_pushed": bank.total_pushed,
            "pushes": int(bank.pushes),
            "rejected": int(bank.rejected),
        },
        "steps": bank.step_range(),
        "fingerprints": {"encoder": encoder, "data": data},
        "versions": {
            "torchbank": _version("torchbank"),
            "torch": str(torch.__version__),
            "safetensors": _version("safetensors"),
        },
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _build(
    path: str | Path,
    header: dict[str, Any],
    tensors: dict[str, Tensor],
    device: torch.device | str | None,
    storage: str | Path,
) -> Bank:
    """An empty bank as the header describes it."""
    name = header.get("class")
    if name not in Bank.registry:
        known = ", ".join(sorted(Bank.registry))
        msg = f"{path} holds a {name}, which is not defined here (known: {known}); import the module that defines it"
        raise FileFormatError(msg)
    try:
        schema = dict(header["schema"])
        fields = {
            field: (dtype_of_name(spec["dtype"]), tuple(spec["shape"])) for field, spec in schema.pop("fields").items()
        }
        dtype = dtype_of_name(schema.pop("dtype"))
        # Before anything is allocated: a damaged header may ask for any capacity.
        if tensors["embeddings"].shape != (schema["capacity"], schema["dim"]):
            msg = f"embeddings of shape {tuple(tensors['embeddings'].shape)}"
            raise ValueError(msg)
        # A class of a user's own need not take a storage.
        where: dict[str, Any] = {} if storage == "module" else {"storage": storage}
        return Bank.registry[name](**schema, fields=fields, dtype=dtype, device=device, **where, **header["options"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path} has a header that does not describe a {name}: {error}"
        raise FileFormatError(msg) from error


# Looked up once: it reads the metadata of the package from the disk.
@functools.cache
def _version(package: str) -> str:
    return importlib.metadata.version(package)
