"""A linker in a file: its gallery, and where every track stands."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torchbank.errors import FileFormatError
from torchbank.io import read_tensors
from torchbank.tracking import _gallery_file
from torchbank.tracking._options import LinkerOptions
from torchbank.tracking.gallery import IdentityGallery

if TYPE_CHECKING:
    from torchbank.tracking.adapters import Embedder
    from torchbank.tracking.linker import IdentityLinker


def write(linker: "IdentityLinker", path: Path) -> None:
    """Write a linker and its gallery, whole or not at all."""
    linker.gallery.ownership.take(path)
    presence, threshold = linker._presence, linker._threshold
    parts = {**presence.state(), "self": threshold.state()}
    arrays = {f"linker.{part}.{name}": value for part, state in parts.items() for name, value in state.items()}
    header = {
        "options": linker.options.as_header(),
        "threshold": threshold.given,
        "margin": threshold.margin_given,
        "calibrates_itself": threshold.own is not None,
        "own_calibration": threshold.learned,
        "turn": presence.turn,
        "sources": [vars(where) for where in presence.sources.values()],
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
    _gallery_file.write(linker.gallery, path, tensors, {"linker": header})


def restore(
    kind: "type[IdentityLinker]", gallery: IdentityGallery, path: Path, embedder: "Embedder | None"
) -> "IdentityLinker":
    """The linker whose gallery was read from a file.

    Raises:
        FileFormatError: The file holds a gallery alone, or a linker that cannot be read.
    """
    tensors, whole = read_tensors(path)
    header = whole.get("linker")
    if header is None:
        msg = f"{path} holds a gallery alone; read it with IdentityGallery.load and give it to a new IdentityLinker"
        raise FileFormatError(msg)
    arrays = {name: tensor.numpy() for name, tensor in _gallery_file.part(tensors, "linker").items()}
    try:
        linker = _build(kind, gallery, header, embedder)
        _fill(linker, header, arrays)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        msg = f"{path} holds a linker that cannot be read: {error}"
        raise FileFormatError(msg) from error
    return linker


def _build(
    kind: "type[IdentityLinker]", gallery: IdentityGallery, header: Mapping[str, Any], embedder: "Embedder | None"
) -> "IdentityLinker":
    # A calibration that was given lies in the gallery.
    threshold = header["threshold"]
    if threshold is None and not header["calibrates_itself"]:
        threshold = gallery.calibration
    options = LinkerOptions.arguments(header["options"])
    return kind(gallery, threshold=threshold, margin=header["margin"], embedder=embedder, **options)


def _fill(linker: "IdentityLinker", header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    state = {name: _gallery_file.part(arrays, name) for name in ("tracks", "history", "view", "self")}
    linker._presence.load(header["sources"], int(header["turn"]), state)
    linker._threshold.load(state["self"], learned=bool(header["own_calibration"]))
