"""A gallery in a file: the samples, the table of identities, and what goes with them."""

import datetime
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from torchbank.errors import BankError, BankValueError, FileFormatError
from torchbank.io import read_tensors, write_tensors
from torchbank.tracking._identities import COLUMNS
from torchbank.tracking._lock import Ownership
from torchbank.tracking.adapt import Whitening
from torchbank.tracking.calibrate import Calibration

if TYPE_CHECKING:
    from torchbank.tracking.gallery import IdentityGallery

KIND = "gallery"
T = TypeVar("T")


def write(
    gallery: "IdentityGallery",
    path: str | Path,
    tensors: Mapping[str, Tensor] | None = None,
    header: Mapping[str, Any] | None = None,
) -> None:
    """Write a gallery, and what a linker adds to it, whole or not at all."""
    held = {f"samples.{name}": tensor for name, tensor in gallery.bank.state_dict().items()}
    held |= {f"identities.{name}": torch.from_numpy(gallery.table.columns[name]) for name in COLUMNS}
    for part in ("adaptation", "calibration"):
        value = getattr(gallery, part)
        held |= {} if value is None else {f"{part}.{name}": tensor for name, tensor in value.tensors().items()}
    write_tensors(path, {**held, **(tensors or {})}, {**_describe(gallery), **(header or {})})


def _describe(gallery: "IdentityGallery") -> dict[str, Any]:
    return {
        "kind": KIND,
        "options": {
            "dim": gallery.dim,
            "max_identities": gallery.max_identities,
            "samples_per_identity": gallery.samples_per_identity,
            "rule": gallery.rule,
            "retention": gallery.retention,
            "min_score": gallery.min_score,
            "novelty": gallery.novelty,
            "dtype": str(gallery.bank.dtype).removeprefix("torch."),
            "fingerprint": gallery.fingerprint,
        },
        "counts": {"identities": len(gallery), "samples": len(gallery.bank)},
        "next_identity": gallery._next,
        "moment": gallery.moment,
        "aliases": [list(pair) for pair in gallery._aliases.items()],
        "sources": gallery.sources,
        "versions": {name: importlib.metadata.version(name) for name in ("torchbank", "torch", "safetensors")},
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def read(path: Path, *, lock: bool, fingerprint: str | None, device: torch.device | str | None) -> "IdentityGallery":
    """Read a gallery that `write` wrote; the arguments and errors are those of `IdentityGallery.load`."""
    ownership = Ownership()
    if not lock:
        ownership.read_only = path.resolve()
    elif path.exists():
        ownership.take(path)
    try:
        gallery = _read(path, device)
        check_fingerprint(gallery, fingerprint, path)
    except BaseException:
        ownership.release()
        raise
    gallery.ownership = ownership
    return gallery


def _read(path: Path, device: torch.device | str | None) -> "IdentityGallery":
    tensors, header = read_tensors(path)
    if header.get("kind") != KIND:
        msg = f"{path} was written by torchbank but holds no gallery; read a bank with torchbank.load"
        raise FileFormatError(msg)
    try:
        return _build(tensors, header, device)
    except (BankError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path} has a header or tensors that do not make a gallery: {error}"
        raise FileFormatError(msg) from error


def check_fingerprint(gallery: "IdentityGallery", fingerprint: str | None, where: object) -> None:
    """Raise if a gallery was filled by another embedder than the one at hand, where both are known."""
    if fingerprint is not None and gallery.fingerprint is not None and fingerprint != gallery.fingerprint:
        msg = (
            f"{where} holds embeddings of {gallery.fingerprint!r}, which cannot be compared with those of "
            f"{fingerprint!r}; use the same embedder, or start a new gallery"
        )
        raise BankValueError(msg)


def part(tensors: Mapping[str, T], name: str) -> dict[str, T]:
    """The tensors or arrays whose names start with ``name`` and a dot, under the rest of their names."""
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}


def _build(
    tensors: Mapping[str, Tensor], header: Mapping[str, Any], device: torch.device | str | None
) -> "IdentityGallery":
    # The gallery is above its file in the room; it hands itself to `write`, and is built here by name.
    from torchbank.tracking.gallery import IdentityGallery

    options = dict(header["options"])
    # Before anything is allocated: a damaged header may ask for any size.
    seats = tensors["identities.identity"].shape[0]
    rows, dim = tensors["samples.embeddings"].shape
    kept = 1 if options["rule"] == "mean" else options["samples_per_identity"]
    if (options["max_identities"], options["max_identities"] * kept, options["dim"]) != (seats, rows, dim):
        msg = f"samples of shape {(rows, dim)} for {seats} identities"
        raise ValueError(msg)
    options["dtype"] = getattr(torch, options["dtype"])
    gallery = IdentityGallery(**options, device=device)
    gallery.bank.load_state_dict(part(tensors, "samples"))
    gallery.table.load({name: np.asarray(column) for name, column in part(tensors, "identities").items()})
    gallery._next, gallery.moment = int(header["next_identity"]), int(header["moment"])
    gallery._aliases = {int(old): int(new) for old, new in header["aliases"]}
    gallery.sources = list(header["sources"])
    if adaptation := part(tensors, "adaptation"):
        gallery.adaptation = Whitening.from_tensors(adaptation)
    if calibration := part(tensors, "calibration"):
        gallery.calibration = Calibration.from_tensors(calibration)
    return gallery
