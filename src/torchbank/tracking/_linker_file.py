"""A linker in a file: its gallery, and where every track stands."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torchbank.errors import FileFormatError
from torchbank.io import read_tensors
from torchbank.tracking import _gallery_file
from torchbank.tracking._candidates import Source
from torchbank.tracking.gallery import IdentityGallery

if TYPE_CHECKING:
    from torchbank.tracking.adapters import Embedder
    from torchbank.tracking.linker import IdentityLinker


def write(linker: "IdentityLinker", path: Path) -> None:
    """Write a linker and its gallery, whole or not at all."""
    linker.gallery._hold(path)
    parts = {"tracks": linker._tracks.state(), "history": linker._history.state(linker.gallery.sources)}
    if linker._self is not None:
        parts["self"] = linker._self.state()
    arrays = {f"linker.{part}.{name}": value for part, state in parts.items() for name, value in state.items()}
    live = [[number, linker._tracks["track"][row]] for number, rows in linker._live.items() for row in sorted(rows)]
    arrays["linker.live"] = np.array(live, dtype=np.int64).reshape(-1, 2)
    header = {
        "options": linker._options,
        "threshold": linker._threshold,
        "margin": linker._margin,
        "calibrates_itself": linker._self is not None,
        "own_calibration": linker._own_calibration,
        "turn": linker._turn,
        "sources": [vars(where) for where in linker._sources.values()],
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
    options = dict(header["options"])
    options["overlapping"] = [tuple(pair) for pair in options["overlapping"]]
    options["travel_time"] = {(one, other): seconds for one, other, seconds in options["travel_time"]}
    # A calibration that was given lies in the gallery.
    threshold = header["threshold"]
    if threshold is None and not header["calibrates_itself"]:
        threshold = gallery.calibration
    linker = kind(gallery, threshold=threshold, margin=header["margin"], embedder=embedder, **options)
    linker._own_calibration, linker._turn = bool(header["own_calibration"]), int(header["turn"])
    return linker


def _fill(linker: "IdentityLinker", header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    linker._tracks.load(_gallery_file.part(arrays, "tracks"))
    linker._history.load(_gallery_file.part(arrays, "history"), linker.gallery.sources)
    if linker._self is not None:
        linker._self.load(_gallery_file.part(arrays, "self"))
    for source in header["sources"]:
        linker._sources[source["name"]] = Source(**source)
        linker._live[source["number"]] = set()
    for number, track in arrays["live"].tolist():
        row = linker._tracks.index[number, track]
        linker._live[number].add(row)
        if linker._tracks["final"][row]:
            linker.gallery.pin(linker._tracks["identity"][[row]])
