"""The data set `sop`: Stanford Online Products."""

from collections.abc import Mapping
from pathlib import Path

from torchbank.data._image_lists import Count, ListedImage, check_count, find_root, image_part, read_table
from torchbank.data._labelled_images import Split
from torchbank.data._protocols import SelfRetrieval

__all__ = ["SOP_COUNTS", "load_sop"]

COLUMNS = ("image_id", "class_id", "super_class_id", "path")
SOP_COUNTS: Mapping[str, Count] = {"train": Count(59_551, 11_318), "test": Count(60_502, 11_316)}
"""What `Ebay_train.txt` and `Ebay_test.txt` hold."""


def load_sop(root: str | Path, *, image_size: int = 224, counts: Mapping[str, Count] | None = SOP_COUNTS) -> Split:
    """Load Stanford Online Products with its published split: no class both trains and tests.

    [Song, Xiang, Jegelka and Savarese 2016](arXiv:1511.06452): 120,053 photographs of 22,634 products of 12 kinds. Each
    test image is a query, and all others are its gallery; papers report R@1, 10, 100 and 1,000.

    Args:
        root: The folder `Stanford_Online_Products`, with `Ebay_train.txt`, `Ebay_test.txt` and the folders of images,
            or the folder around it.
        image_size: Height and width of every image, in pixels.
        counts: What "train" and "test" must hold; None takes the lists as they are.

    Returns:
        `FolderImages` whose super-classes are the kinds, such as "bicycle".

    Raises:
        BankValueError: A file is missing, or a list holds another number of images or classes.
        FileFormatError: A line of a list is none of its rows.

    Example:
        >>> load_sop("no/such/place")
        Traceback (most recent call last):
        torchbank.errors.BankValueError: no Ebay_train.txt in 'no/such/place' nor in \
'no/such/place/Stanford_Online_Products'; give the folder it lies in as root
    """
    root = find_root(root, "Ebay_train.txt", "Stanford_Online_Products")
    files = {"train": root / "Ebay_train.txt", "test": root / "Ebay_test.txt"}
    listed = {part: _read(file) for part, file in files.items()}
    for part, file in files.items():
        check_count(listed[part], counts, part, list_file=file)
    class_names = dict.fromkeys(image.class_name for part in listed.values() for image in part)
    protocols = {"train": None, "test": SelfRetrieval(ks=(1, 10, 100, 1_000))}
    return Split(
        *(
            image_part(
                root,
                listed[part],
                class_names,
                name="sop",
                image_size=image_size,
                list_file=files[part],
                protocol=protocol,
            )
            for part, protocol in protocols.items()
        )
    )


def _read(file: Path) -> list[ListedImage]:
    rows = read_table(file, COLUMNS, skip=1)
    # The folder of an image is its kind, such as "bicycle_final".
    return [ListedImage(path, label, path.partition("/")[0].removesuffix("_final")) for _, label, _, path in rows]
