"""The data set `fashion-mnist`: grey photographs of clothes, from the IDX files that its authors publish."""

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

from torchbank.data._labelled_images import ArrayImages, Split
from torchbank.errors import BankValueError, FileFormatError

__all__ = ["load_fashion_mnist"]

DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"
CLASS_NAMES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
# An IDX file begins with two zero bytes, the type of its items (8 is unsigned bytes) and the number of its axes,
# then the length of each axis as a big-endian 32-bit integer.
UNSIGNED_BYTES = 8


def load_fashion_mnist(root: str | Path = DEBIAN_FOLDER) -> Split:
    """Load Fashion-MNIST with its published split; train and test share their ten classes.

    [Xiao et al. 2017](arXiv:1708.07747): 60,000 images to train and 10,000 to test, 28 x 28 pixels, light clothes on
    black (0.0).

    Args:
        root: The folder of `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the two files that begin with
            `t10k` instead of `train`, each as it is or with `.gz`; by default where the Debian package
            dataset-fashion-mnist puts them.

    Raises:
        BankValueError: A file is missing, or images and labels do not fit together.
        FileFormatError: A file is truncated or no IDX file.

    Example:
        >>> load_fashion_mnist("no/such/place")
        Traceback (most recent call last):
        torchbank.errors.BankValueError: no train-images-idx3-ubyte, with or without .gz, in 'no/such/place'; install \
the Debian package dataset-fashion-mnist, or give the folder of the IDX files as root
    """
    root = Path(root)
    train, test = (
        ArrayImages(
            _read_idx(root, f"{part}-images-idx3-ubyte", axes=3).unsqueeze(1),
            _read_idx(root, f"{part}-labels-idx1-ubyte", axes=1).to(torch.int64),
            class_names=CLASS_NAMES,
            name="fashion-mnist",
        )
        for part in ("train", "t10k")
    )
    return Split(train, test)


def _read_idx(root: Path, name: str, *, axes: int) -> Tensor:
    """The items of an IDX file of unsigned bytes."""
    path = next((path for path in (root / name, root / f"{name}.gz") if path.is_file()), None)
    if path is None:
        msg = (
            f"no {name}, with or without .gz, in {str(root)!r}; install the Debian package dataset-fashion-mnist, or "
            "give the folder of the IDX files as root"
        )
        raise BankValueError(msg)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        msg = f"cannot read {str(path)!r} ({error}); expected a whole gzip file: fetch it again"
        raise FileFormatError(msg) from error
    header = 4 + 4 * axes
    shape = [int.from_bytes(content[place : place + 4]) for place in range(4, header, 4)]
    if content[:4] != bytes((0, 0, UNSIGNED_BYTES, axes)) or len(content) != header + math.prod(shape):
        msg = (
            f"{str(path)!r} is no whole IDX file of unsigned bytes with {axes} axes ({len(content):,} bytes, the first "
            f"four {content[:4].hex(' ')}); expected 00 00 08 {axes:02x}, {axes} lengths and as many bytes as they say"
        )
        raise FileFormatError(msg)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).view(shape)
