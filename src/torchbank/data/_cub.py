"""The data set `cub`: Caltech-UCSD Birds 200-2011."""

from collections.abc import Mapping
from pathlib import Path

from torchbank.data._image_lists import Count, ListedImage, find_root, half_the_classes, read_table
from torchbank.data._labelled_images import Split
from torchbank.errors import FileFormatError

__all__ = ["CUB_COUNTS", "load_cub"]

CUB_COUNTS: Mapping[str, Count] = {"train": Count(5_864, 100), "test": Count(5_924, 100)}
"""What the first and the second half of the classes hold."""


def load_cub(root: str | Path, *, image_size: int = 224, counts: Mapping[str, Count] | None = CUB_COUNTS) -> Split:
    """Load CUB-200-2011 as metric learning does: the first half of the classes trains, the second half tests.

    [Wah, Branson, Welinder, Perona and Belongie 2011](https://authors.library.caltech.edu/27452/): 11,788 photographs
    of 200 kinds of birds. `train_test_split.txt` is for classification and is not read, nor are the boxes. Each test
    image is a query, and all others are its gallery; papers report R@1, 2, 4 and 8.

    Args:
        root: The folder `CUB_200_2011`, with `images.txt`, `image_class_labels.txt` and `images`, or the folder
            around it.
        image_size: Height and width of every image, in pixels.
        counts: What "train" and "test" must hold; None takes the lists as they are.

    Returns:
        `FolderImages`.

    Raises:
        BankValueError: A file is missing, or the lists hold another number of images or classes.
        FileFormatError: A line of a list is none of its rows, or the two lists do not name the same images.

    Example:
        >>> load_cub("no/such/place")
        Traceback (most recent call last):
        torchbank.errors.BankValueError: no images.txt in 'no/such/place' nor in 'no/such/place/CUB_200_2011'; \
give the folder it lies in as root
    """
    root = find_root(root, "images.txt", "CUB_200_2011")
    paths, labels = root / "images.txt", root / "image_class_labels.txt"
    path_of = dict(read_table(paths, ("image_id", "image_name")))
    label_of = dict(read_table(labels, ("image_id", "class_id")))
    lone = path_of.keys() ^ label_of.keys()
    if lone:
        msg = (
            f"{paths.name} has {len(path_of):,} images and {labels.name} {len(label_of):,}, both in {str(root)!r}, and "
            f"image {min(lone)} is in one of them only; expected the same in both: get the wrong one again"
        )
        raise FileFormatError(msg)
    listed: dict[int, list[ListedImage]] = {}
    for image, path in path_of.items():
        # The folder of an image is its class, such as "001.Black_footed_Albatross".
        listed.setdefault(_number(label_of[image], labels), []).append(ListedImage(path, path.partition("/")[0]))
    return half_the_classes(root / "images", listed, counts, name="cub", image_size=image_size, list_file=labels)


def _number(label: str, file: Path) -> int:
    if not label.isdecimal():
        msg = f"{str(file)!r} has the class {label!r}; expected a number"
        raise FileFormatError(msg)
    return int(label)
