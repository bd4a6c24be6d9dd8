"""Networks that make an embedding of each box of a picture: a file, or a package that is there.

An embedder is ``embedder(image, boxes) -> (n, dim)`` float32 of an RGB picture; a box of which nothing lies in the
picture has no embedding (NaN).
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchbank.encoders import load_torchscript
from torchbank.errors import BankKeyError, BankValueError, FileFormatError

__all__ = ["CHOICES", "Embedder", "build_embedder", "cut_crops"]

CHOICES = "torchscript:FILE, onnx:FILE, ultralytics, ultralytics:MODEL"
# Height and width of the crops of person re-identification, and the statistics of ImageNet.
SIZE = (256, 128)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 64


class Embedder(NamedTuple):
    """An embedder and what tells it from others.

    Attributes:
        embed: ``embed(crops)`` of ``(h, w, 3)`` uint8 pictures gives ``(n, dim)``.
        fingerprint: Its name and a checksum of its file.
    """

    embed: Callable[[Sequence[np.ndarray]], np.ndarray]
    fingerprint: str

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Embed the boxes of a picture."""
        crops = cut_crops(image, boxes)
        whole = [place for place, crop in enumerate(crops) if crop is not None]
        if not whole:
            return np.full((len(boxes), 1), np.nan, dtype=np.float32)
        parts = [whole[start : start + BATCH] for start in range(0, len(whole), BATCH)]
        embeddings = np.concatenate([self.embed([crops[place] for place in part]) for part in parts])  # pyrefly: ignore
        found = np.full((len(boxes), embeddings.shape[1]), np.nan, dtype=np.float32)
        found[whole] = embeddings
        return found


def cut_crops(image: np.ndarray, boxes: np.ndarray) -> list[np.ndarray | None]:
    """The part of a picture in each box; None where no whole pixel of it lies in the picture."""
    height, width = image.shape[:2]
    crops: list[np.ndarray | None] = []
    for x1, y1, x2, y2 in np.nan_to_num(boxes).clip([0, 0, 0, 0], [width, height, width, height]).round().astype(int):
        crops.append(image[y1:y2, x1:x2] if x2 > x1 and y2 > y1 else None)
    return crops


def build_embedder(name: str) -> Embedder:
    """The embedder of a name.

    Args:
        name: ``torchscript:FILE`` or ``onnx:FILE``, networks that take ``(n, 3, 256, 128)`` RGB scaled by the
            statistics of ImageNet (an ONNX file may fix another height and width); ``ultralytics``, the features
            of its classifier yolo26n-cls; or ``ultralytics:MODEL``.

    Raises:
        BankKeyError: There is no such embedder.
        BankValueError: A file or package is missing.
        FileFormatError: A file cannot be read.
    """
    match name.partition(":"):
        case ("torchscript", ":", file) if file:
            return _torchscript(file)
        case ("onnx", ":", file) if file:
            return _onnx(file)
        case ("ultralytics", _, model):
            return _ultralytics(model or "yolo26n-cls.pt")
        case _:
            msg = f"unknown embedder {name!r}; expected one of {CHOICES}"
            raise BankKeyError(msg)


def _torchscript(file: str) -> Embedder:
    network = load_torchscript(file).eval()

    def embed(crops: Sequence[np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            return _rows(file, network(_batch(crops, SIZE)), len(crops))

    return Embedder(embed, _fingerprint(file))


def _onnx(file: str) -> Embedder:
    try:
        import onnxruntime  # pyrefly: ignore[missing-import]
    except ImportError as error:
        msg = f"onnx:{file} needs the package onnxruntime; pip install onnxruntime"
        raise BankValueError(msg) from error
    if not Path(file).is_file():
        msg = f"no ONNX file at {file!r}; expected onnx:FILE"
        raise BankValueError(msg)
    try:
        session = onnxruntime.InferenceSession(file, providers=onnxruntime.get_available_providers())
    except (RuntimeError, ValueError) as error:
        msg = f"cannot read {file!r} as ONNX: {error}"
        raise FileFormatError(msg) from error
    entry = session.get_inputs()[0]
    # A side that may vary has a name in place of a number.
    size = tuple(side if isinstance(side, int) else usual for side, usual in zip(entry.shape[2:], SIZE, strict=True))

    def embed(crops: Sequence[np.ndarray]) -> np.ndarray:
        return _rows(file, session.run(None, {entry.name: _batch(crops, size).numpy()})[0], len(crops))

    return Embedder(embed, _fingerprint(file))


def _ultralytics(model: str) -> Embedder:
    network = load_ultralytics(model)

    def embed(crops: Sequence[np.ndarray]) -> np.ndarray:
        # It takes pictures of the camera's order, BGR.
        vectors = network.embed([np.ascontiguousarray(crop[..., ::-1]) for crop in crops], verbose=False)
        return np.stack([vector.float().cpu().numpy().reshape(-1) for vector in vectors])

    return Embedder(embed, f"ultralytics:{model}")


def load_ultralytics(model: str) -> Any:
    """A model of the package Ultralytics, which fetches what it has not.

    Raises:
        BankValueError: It is not installed.
    """
    try:
        from ultralytics import YOLO  # pyrefly: ignore[missing-import]
    except ImportError as error:
        msg = f"ultralytics:{model} needs the package ultralytics; pip install ultralytics"
        raise BankValueError(msg) from error
    return YOLO(model if Path(model).suffix else f"{model}.pt")


def _batch(crops: Sequence[np.ndarray], size: tuple[int, ...]) -> Tensor:
    images = []
    for crop in crops:
        pixels = torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1)[None].float()
        scaled = torch.nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        images.append(scaled)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return (torch.cat(images) / 255 - mean) / deviation


def _rows(file: str, output: Any, count: int) -> np.ndarray:
    rows = output.float().cpu().numpy() if isinstance(output, Tensor) else np.asarray(output, dtype=np.float32)
    if rows.ndim != 2 or len(rows) != count:
        msg = f"{file} gives an output of shape {rows.shape} for {count} crops; expected ({count}, dim)"
        raise BankValueError(msg)
    return rows


def _fingerprint(file: str) -> str:
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return f"{Path(file).name}@{digest[:16]}"
