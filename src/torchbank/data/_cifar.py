"""The data sets `cifar10` and `cifar100`, from the archives that their authors publish.

Each comes in a "binary" and a "python" version, and each is read from the archive as it was fetched or from the
folder that it unpacks to.
"""

import math
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from torchbank.data._labelled_images import ArrayImages, Split
from torchbank.data._pickled_arrays import read_pickle
from torchbank.errors import BankValueError, FileFormatError

__all__ = ["load_cifar10", "load_cifar100"]

# Red, green and blue one after the other, row by row.
IMAGE_SHAPE = (3, 32, 32)
IMAGE_BYTES = math.prod(IMAGE_SHAPE)

Read = Callable[[str], bytes]


@dataclass(frozen=True)
class _Version:
    """A published archive and what its files are called.

    Args:
        archive: The archive.
        folder: The folder in it.
        train: Files of training images.
        test: The file of test images.
        names: The file of class names.
        labels: Python version: the key of the labels.
        label_names: Python version: the key of the class names.
        label_bytes: Binary version: label bytes before each image, of which the last counts.
    """

    archive: str
    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    labels: str = ""
    label_names: str = ""
    label_bytes: int = 0


_CIFAR10 = (
    _Version(
        archive="cifar-10-binary.tar.gz",
        folder="cifar-10-batches-bin",
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test="test_batch.bin",
        names="batches.meta.txt",
        label_bytes=1,
    ),
    _Version(
        archive="cifar-10-python.tar.gz",
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test="test_batch",
        names="batches.meta",
        labels="labels",
        label_names="label_names",
    ),
)
_CIFAR100 = (
    _Version(
        archive="cifar-100-binary.tar.gz",
        folder="cifar-100-binary",
        train=("train.bin",),
        test="test.bin",
        names="fine_label_names.txt",
        # The coarse label, then the fine one.
        label_bytes=2,
    ),
    _Version(
        archive="cifar-100-python.tar.gz",
        folder="cifar-100-python",
        train=("train",),
        test="test",
        names="meta",
        labels="fine_labels",
        label_names="fine_label_names",
    ),
)


def load_cifar10(root: str | Path) -> Split:
    """Load CIFAR-10 with its published split; train and test share their ten classes.

    [Krizhevsky 2009](https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf): 50,000 colour photographs to
    train and 10,000 to test, 32 x 32 pixels. Nothing that a pickle of the python version names is run.

    Args:
        root: Where `cifar-10-binary.tar.gz`, `cifar-10-python.tar.gz` or the folder that one of them unpacks to lies;
            or that folder itself.

    Raises:
        BankValueError: None of them is there, or a file is missing.
        FileFormatError: A file is truncated or foreign; the message names it.

    Example:
        >>> load_cifar10("no/such/place")
        Traceback (most recent call last):
        torchbank.errors.BankValueError: no cifar10 in 'no/such/place'; expected one of cifar-10-binary.tar.gz, \
cifar-10-batches-bin/, cifar-10-python.tar.gz, cifar-10-batches-py/
    """
    return _load("cifar10", Path(root), _CIFAR10)


def load_cifar100(root: str | Path) -> Split:
    """Load CIFAR-100, labelled by its hundred fine classes, with its published split; the parts share their classes.

    Args:
        root: Where `cifar-100-binary.tar.gz`, `cifar-100-python.tar.gz` or the folder that one of them unpacks to
            lies; or that folder itself.

    Raises:
        BankValueError: None of them is there, or a file is missing.
        FileFormatError: A file is truncated or foreign; the message names it.

    Example:
        >>> load_cifar100("no/such/place")
        Traceback (most recent call last):
        torchbank.errors.BankValueError: no cifar100 in 'no/such/place'; expected one of cifar-100-binary.tar.gz, \
cifar-100-binary/, cifar-100-python.tar.gz, cifar-100-python/
    """
    return _load("cifar100", Path(root), _CIFAR100)


def _load(name: str, root: Path, versions: tuple[_Version, ...]) -> Split:
    version, read = _find(name, root, versions)
    parse = _parse_binary if version.label_bytes else _parse_pickle
    class_names = _class_names(read, version)
    parts = []
    for files in (version.train, (version.test,)):
        images, labels = zip(*(parse(read, file, version) for file in files), strict=True)
        parts.append(ArrayImages(torch.cat(images), torch.cat(labels), class_names=class_names, name=name))
    return Split(*parts)


def _find(name: str, root: Path, versions: tuple[_Version, ...]) -> tuple[_Version, Read]:
    """The version that is there, and a function that reads one of its files by name."""
    for version in versions:
        for folder in (root / version.folder, root):
            if (folder / version.test).is_file():
                return version, _reader_of_folder(folder)
        if (root / version.archive).is_file():
            return version, _reader_of_archive(root / version.archive, version)
    places = ", ".join(f"{version.archive}, {version.folder}/" for version in versions)
    msg = f"no {name} in {str(root)!r}; expected one of {places}"
    raise BankValueError(msg)


def _reader_of_folder(folder: Path) -> Read:
    def read(file: str) -> bytes:
        if not (folder / file).is_file():
            msg = f"no file {file!r} in {str(folder)!r}; unpack the whole archive"
            raise BankValueError(msg)
        return (folder / file).read_bytes()

    return read


def _reader_of_archive(path: Path, version: _Version) -> Read:
    # One pass, for a compressed archive cannot be sought in; and nothing is unpacked to the disk.
    wanted = {f"{version.folder}/{file}": file for file in (*version.train, version.test, version.names)}
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.name in wanted else None
                if content is not None:
                    contents[wanted[member.name]] = content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        msg = f"cannot read {str(path)!r} ({error}); expected a whole .tar.gz archive: fetch it again"
        raise FileFormatError(msg) from error
    missing = [place for place, file in wanted.items() if file not in contents]
    if missing:
        msg = f"no {missing[0]} in {str(path)!r}; expected the archive of that name as its authors publish it"
        raise FileFormatError(msg)
    return contents.__getitem__


def _parse_binary(read: Read, file: str, version: _Version) -> tuple[Tensor, Tensor]:
    content, row = read(file), version.label_bytes + IMAGE_BYTES
    if not content or len(content) % row:
        msg = (
            f"{version.folder}/{file} has {len(content):,} bytes; expected a multiple of {row:,} ({IMAGE_BYTES:,} for "
            f"an image, {version.label_bytes} for its label): it is truncated or another file"
        )
        raise FileFormatError(msg)
    rows = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(-1, row)
    images, labels = rows[:, version.label_bytes :], rows[:, version.label_bytes - 1]
    return images.reshape(-1, *IMAGE_SHAPE), labels.to(torch.int64)


def _parse_pickle(read: Read, file: str, version: _Version) -> tuple[Tensor, Tensor]:
    content = read_pickle(read(file), f"{version.folder}/{file}")
    images, labels = torch.as_tensor(content.get("data", ())), content.get(version.labels)
    if images.shape[1:] != (IMAGE_BYTES,) or not isinstance(labels, list):
        msg = (
            f"{version.folder}/{file} holds {', '.join(content)}, 'data' of shape {tuple(images.shape)}; expected "
            f"'data' of shape (images, {IMAGE_BYTES:,}) and {version.labels!r}: it is another file"
        )
        raise FileFormatError(msg)
    return images.view(-1, *IMAGE_SHAPE), torch.tensor(labels, dtype=torch.int64)


def _class_names(read: Read, version: _Version) -> list[str]:
    content = read(version.names)
    if version.label_bytes:
        return content.decode("latin-1").split()
    place = f"{version.folder}/{version.names}"
    names = read_pickle(content, place).get(version.label_names)
    if not isinstance(names, list):
        msg = f"{place} holds no {version.label_names!r}; it is another file"
        raise FileFormatError(msg)
    return [str(name) for name in names]
