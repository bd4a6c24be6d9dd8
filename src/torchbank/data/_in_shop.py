"""The data set `inshop`: In-Shop Clothes Retrieval of DeepFashion."""

from collections.abc import Mapping
from pathlib import Path

import torch

from torchbank.data._image_lists import Count, ListedImage, check_count, find_root, image_part, read_table
from torchbank.data._labelled_images import Split
from torchbank.data._protocols import QueryGallery
from torchbank.errors import FileFormatError

__all__ = ["IN_SHOP_COUNTS", "load_in_shop"]

COLUMNS = ("image_name", "item_id", "evaluation_status")
IN_SHOP_COUNTS: Mapping[str, Count] = {
    "train": Count(25_882, 3_997),
    "query": Count(14_218, 3_985),
    "gallery": Count(12_612, 3_985),
}
"""What `list_eval_partition.txt` holds."""


def load_in_shop(
    root: str | Path, *, image_size: int = 224, counts: Mapping[str, Count] | None = IN_SHOP_COUNTS
) -> Split:
    """Load In-Shop Clothes Retrieval with its published split: no item both trains and tests.

    [Liu, Luo, Qiu, Wang and Tang 2016](https://doi.org/10.1109/CVPR.2016.124): 52,712 photographs of 7,982 items. The
    test part holds queries and their gallery, and is scored so; papers report R@1, 10, 20, 30, 40 and 50.

    Args:
        root: The folder of `list_eval_partition.txt`, or with it in `Eval`; `img`, or `Img/img`, holds the images.
        image_size: Height and width of every image, in pixels.
        counts: What "train", "query" and "gallery" must hold; None takes the list as it is.

    Returns:
        `FolderImages` whose super-classes are the kinds of clothes, such as "WOMEN/Dresses".

    Raises:
        BankValueError: A file is missing, or the list holds another number of images or items.
        FileFormatError: A line of the list is none of its rows, or there are more or fewer rows than its head says.

    Example:
        >>> load_in_shop("no/such/place")
        Traceback (most recent call last):
        torchbank.errors.BankValueError: no list_eval_partition.txt in 'no/such/place' nor in 'no/such/place/Eval'; \
give the folder it lies in as root
    """
    file = find_root(root, "list_eval_partition.txt", "Eval") / "list_eval_partition.txt"
    listed = _read(file)
    for part, images in listed.items():
        check_count(images, counts, part, list_file=file)
    images_in = Path(root) if (Path(root) / "img").is_dir() else Path(root) / "Img"
    test = listed["query"] + listed["gallery"]
    class_names = dict.fromkeys(image.class_name for image in listed["train"] + test)
    is_query = torch.arange(len(test)) < len(listed["query"])
    protocol = QueryGallery(is_query, ks=(1, 10, 20, 30, 40, 50))
    shared = {"name": "inshop", "image_size": image_size, "list_file": file}
    return Split(
        image_part(images_in, listed["train"], class_names, **shared),
        image_part(images_in, test, class_names, **shared, protocol=protocol),
    )


def _read(file: Path) -> dict[str, list[ListedImage]]:
    """The images by part."""
    rows = read_table(file, COLUMNS, skip=2)
    head = file.read_text("utf-8").partition("\n")[0].strip()
    if head != str(len(rows)):
        msg = f"{str(file)!r} begins with {head[:40]!r} and has {len(rows):,} rows; expected their number: get it again"
        raise FileFormatError(msg)
    listed: dict[str, list[ListedImage]] = {"train": [], "query": [], "gallery": []}
    for path, item, part in rows:
        if part not in listed:
            msg = f"{str(file)!r} has {path} in {part!r}; expected one of {', '.join(listed)}"
            raise FileFormatError(msg)
        # img/WOMEN/Dresses/id_00000002/02_1_front.jpg: the kind lies around the item.
        listed[part].append(ListedImage(path, item, "/".join(path.split("/")[1:-2])))
    return listed
