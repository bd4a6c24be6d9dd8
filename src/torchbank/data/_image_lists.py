"""Published lists of images: read line by line, counted, and made a part of a split."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from torchbank.data._folder import FolderImages
from torchbank.data._labelled_images import Split
from torchbank.data._protocols import RetrievalProtocol, SelfRetrieval
from torchbank.errors import BankValueError, FileFormatError

__all__ = ["Count", "ListedImage", "check_count", "find_root", "half_the_classes", "image_part", "read_table"]

# Test images are the middle 224 of 256 pixels, as every paper on these sets has it; training images are left whole,
# for the random crops of the augmentation.
TEST_CROP = 224 / 256


class Count(NamedTuple):
    """How much a list holds.

    Attributes:
        images: Rows.
        classes: Different classes among them.
    """

    images: int
    classes: int


class ListedImage(NamedTuple):
    """A row of a list.

    Attributes:
        path: Relative to the folder of the images, with forward slashes.
        class_name: As the list writes it.
        super_class: The kind of its class, where the list tells one.
    """

    path: str
    class_name: str
    super_class: str = ""


def find_root(root: str | Path, file: str, *inside: str) -> Path:
    """The folder that holds a file: `root`, or one of some folders inside it, in this order.

    Raises:
        BankValueError: None of them does.
    """
    folders = [Path(root), *(Path(root) / folder for folder in inside)]
    for folder in folders:
        if (folder / file).is_file():
            return folder
    msg = f"no {file} in {' nor in '.join(repr(str(folder)) for folder in folders)}; give the folder it lies in as root"
    raise BankValueError(msg)


def read_table(path: Path, columns: Sequence[str], *, skip: int = 0) -> list[list[str]]:
    """The rows of a text file whose columns are split by runs of blanks.

    Args:
        path: The file.
        columns: Their names; there are as many in each row.
        skip: Lines at its head that are no rows.

    Raises:
        BankValueError: There is no such file.
        FileFormatError: It is no text, or a row has another number of columns.
    """
    if not path.is_file():
        msg = f"no {path.name} in {str(path.parent)!r}; expected the list as it is published, beside the others"
        raise BankValueError(msg)
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        msg = f"{str(path)!r} is no text ({error}); expected the list as it is published"
        raise FileFormatError(msg) from error
    rows = []
    for number, line in enumerate(lines[skip:], start=skip + 1):
        row = line.split()
        if row and len(row) != len(columns):
            msg = f"line {number} of {str(path)!r} is {line[:60]!r}; expected {' '.join(columns)}"
            raise FileFormatError(msg)
        rows += [row] if row else []
    return rows


def check_count(
    listed: Sequence[ListedImage], counts: Mapping[str, Count] | None, part: str, *, list_file: Path
) -> None:
    """Raise unless a part of a list holds what its publishers say.

    Args:
        listed: The part.
        counts: What each part must hold; None checks nothing.
        part: A key of `counts`.
        list_file: Where it was read.

    Raises:
        BankValueError: It holds more or less, or nothing.
    """
    given = Count(len(listed), len({image.class_name for image in listed}))
    if not listed:
        msg = f"{str(list_file)!r} lists no image to {part}; expected the list as it is published"
        raise BankValueError(msg)
    if counts is not None and given != counts[part]:
        images, classes = counts[part]
        msg = (
            f"{str(list_file)!r} lists {given.images:,} images of {given.classes:,} classes ({part}); expected "
            f"{images:,} of {classes:,}: get this file again, or give counts=None (--counts any) to read it as it is"
        )
        raise BankValueError(msg)


def image_part(
    root: Path,
    listed: Sequence[ListedImage],
    class_names: Iterable[str],
    *,
    name: str,
    image_size: int,
    list_file: Path,
    protocol: RetrievalProtocol | None = None,
) -> FolderImages:
    """A part of a split, of images that all are there.

    Args:
        root: The folder that the paths are relative to.
        listed: The part.
        class_names: Those of both parts.
        name: What the data set is called.
        image_size: Height and width of every image, in pixels.
        list_file: Where the part was read, for messages.
        protocol: How its images are retrieved; a part that trains has none.

    Raises:
        BankValueError: A listed image is missing, or `image_size` is below 1.
    """
    if image_size < 1:
        msg = f"image_size is {image_size}; expected a number of pixels of 1 or more"
        raise BankValueError(msg)
    _check_present(root, listed, list_file)
    class_names = tuple(class_names)
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    labels = torch.tensor([label_of[image.class_name] for image in listed])
    part = FolderImages(
        root,
        [Path(image.path) for image in listed],
        labels,
        class_names=class_names,
        image_size=image_size,
        crop=1.0 if protocol is None else TEST_CROP,
        name=name,
    )
    part.protocol = protocol or SelfRetrieval()
    if listed[0].super_class:
        part.super_class_names = tuple(sorted({image.super_class for image in listed}))
        number_of = {super_class: number for number, super_class in enumerate(part.super_class_names)}
        part.super_classes = torch.tensor([number_of[image.super_class] for image in listed])
    return part


def half_the_classes(
    root: Path,
    listed: Mapping[int, Sequence[ListedImage]],
    counts: Mapping[str, Count] | None,
    *,
    name: str,
    image_size: int,
    list_file: Path,
) -> Split:
    """The split of metric learning where the published one is for classification: the first half of the classes trains.

    Each test image is a query, and all others are its gallery; R@1, 2, 4 and 8.

    Args:
        root: The folder that the paths are relative to.
        listed: The images by the number of their class.
        counts: What "train" and "test" must hold; None checks nothing.
        name: What the data set is called.
        image_size: Height and width of every image, in pixels.
        list_file: Where the classes were read, for messages.

    Raises:
        BankValueError: A half is empty or holds another number of images or classes, or an image is missing.
    """
    classes = [listed[number] for number in sorted(listed)]
    class_names = [images[0].class_name for images in classes]
    middle = len(classes) // 2
    parts = []
    for part, half, protocol in (
        ("train", classes[:middle], None),
        ("test", classes[middle:], SelfRetrieval(ks=(1, 2, 4, 8))),
    ):
        images = [image for members in half for image in members]
        check_count(images, counts, part, list_file=list_file)
        shared = {"name": name, "image_size": image_size, "list_file": list_file}
        parts.append(image_part(root, images, class_names, **shared, protocol=protocol))
    return Split(*parts)


def _check_present(root: Path, listed: Sequence[ListedImage], list_file: Path) -> None:
    # A folder is listed once: asking for each of 100,000 files takes many times as long.
    found: dict[str, set[str]] = {}
    missing = []
    for image in listed:
        folder, _, file = image.path.rpartition("/")
        if folder not in found:
            place = root / folder
            found[folder] = {entry.name for entry in place.iterdir()} if place.is_dir() else set()
        if file not in found[folder]:
            missing.append(image.path)
    if missing:
        msg = (
            f"{len(missing):,} of {len(listed):,} images that {str(list_file)!r} lists are not in {str(root)!r}, the "
            f"first is {missing[0]}; unpack the images there"
        )
        raise BankValueError(msg)
