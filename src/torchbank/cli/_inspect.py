"""`torchbank inspect BANK`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from torchbank.banks import Bank
from torchbank.cli._arguments import parse
from torchbank.cli._tables import print_rows
from torchbank.io import load, read_header

_DESCRIPTION = """Tell what a bank file holds: schema, counts, ages, fields, bytes and where it came from.

example:
  torchbank inspect runs/kanji/bank.safetensors"""


@dataclass(frozen=True)
class _Arguments:
    """Which bank.

    Args:
        bank: A bank file, or a run folder with one.
    """

    bank: tyro.conf.Positional[Path]


def run(words: Sequence[str]) -> None:
    """Parse and tell."""
    path = parse(_Arguments, words, prog="torchbank inspect", description=_DESCRIPTION).bank
    if path.is_dir():
        path = path / "bank.safetensors"
    bank, header = load(path, device="cpu"), read_header(path)
    print_rows(str(path), ("what", "value"), _facts(bank, header, path.stat().st_size), justify="left")
    view = bank.view()
    rows = [_field_facts(name, values[view.valid]) for name, values in view.fields.items()]
    if rows:
        print_rows("fields", ("field", "dtype", "shape", "smallest", "largest", "distinct"), rows)


def _facts(bank: Bank, header: dict[str, Any], file_bytes: int) -> Iterator[tuple[str, str]]:
    schema, counts = header["schema"], header["counts"]
    yield "class", header["class"]
    yield "rows", f"{counts['rows']:,} of {schema['capacity']:,}"
    yield "dim, dtype, metric", f"{schema['dim']}, {schema['dtype']}, {schema['metric']}"
    yield "pushed in all", f"{counts['total_pushed']:,} rows in {counts['pushes']:,} pushes"
    yield "rejected", f"{counts['rejected']:,}"
    if header["steps"] is not None:
        first, last = header["steps"]
        ages = bank.age(last)[bank.view().valid].double()
        yield "steps", f"{first:,} to {last:,}"
        yield "age at the last step", f"median {ages.median():,.0f}, oldest {ages.max():,.0f}"
    yield "bytes in memory, on disk", f"{bank.nbytes:,}, {file_bytes:,}"
    for name, fingerprint in header["fingerprints"].items():
        yield f"{name} fingerprint", fingerprint or "not given"
    yield "written", f"{header['created']} by " + ", ".join(f"{k} {v}" for k, v in header["versions"].items())


def _field_facts(name: str, values: Tensor) -> tuple[str, ...]:
    kind = (name, str(values.dtype).removeprefix("torch."), str(tuple(values.shape[1:]) or "scalar"))
    if not values.numel():
        return (*kind, "", "", "")
    if values.dtype == torch.bool:
        values = values.to(torch.uint8)
    return (*kind, f"{values.min().item():,}", f"{values.max().item():,}", f"{len(values.unique(dim=0)):,}")
