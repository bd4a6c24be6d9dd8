"""The data set `vehicleid`: PKU VehicleID."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from torchbank.data._image_lists import Count, ListedImage, check_count, find_root, image_part, read_table
from torchbank.data._labelled_images import Split
from torchbank.data._protocols import RandomGallery, SelfRetrieval
from torchbank.errors import check_choice

__all__ = ["VEHICLE_ID_COUNTS", "VehicleGallery", "VehicleTest", "load_vehicle_id"]

VehicleTest = Literal["small", "medium", "large"]
VehicleGallery = Literal["all-others", "one-each"]

COLUMNS = ("image_id", "vehicle_id")
VEHICLES: Mapping[str, int] = {"small": 800, "medium": 1_600, "large": 2_400}
VEHICLE_ID_COUNTS: Mapping[str, Count] = {
    "train": Count(113_346, 13_164),
    "small": Count(6_493, 800),
    "medium": Count(13_377, 1_600),
    "large": Count(19_777, 2_400),
}
"""What `train_list.txt` and the three `test_list_*.txt` hold, which is not what papers quote: see `load_vehicle_id`."""


def load_vehicle_id(
    root: str | Path,
    *,
    image_size: int = 224,
    test_list: VehicleTest = "small",
    gallery: VehicleGallery = "all-others",
    counts: Mapping[str, Count] | None = VEHICLE_ID_COUNTS,
) -> Split:
    """Load VehicleID with its published lists: no vehicle both trains and tests.

    [Liu, Tian, Yang, Pang and Huang 2016](https://doi.org/10.1109/CVPR.2016.238). The lists hold 113,346 images of
    13,164 vehicles to train and 6,493, 13,377 or 19,777 to test; papers quote 110,178 of 13,134, and 7,332, 12,995 or
    20,038.

    Two protocols go by the name of this set, and their scores do not compare:

    - metric learning, of XBM as well ([Wang et al. 2020](arXiv:1912.06798)): each test image is a query, and all others
      are its gallery;
    - re-identification: one random image of each vehicle is the gallery, the others are queries, ten draws.

    Both report R@1 and 5.

    Args:
        root: The folder of `train_test_split` and `image`, or the folder around it, if it is called `VehicleID_V1.0`.
        image_size: Height and width of every image, in pixels.
        test_list: The list of 800, 1,600 or 2,400 vehicles.
        gallery: Which protocol.
        counts: What "train" and the test lists must hold; None takes the lists as they are.

    Returns:
        `FolderImages`.

    Raises:
        BankValueError: A file is missing, or a list holds another number of images or vehicles.
        FileFormatError: A line of a list is none of its rows.

    Example:
        >>> load_vehicle_id("no/such/place")
        Traceback (most recent call last):
        torchbank.errors.BankValueError: no train_test_split/train_list.txt in 'no/such/place' nor in \
'no/such/place/VehicleID_V1.0'; give the folder it lies in as root
    """
    check_choice("test_list", test_list, *get_args(VehicleTest))
    check_choice("gallery", gallery, *get_args(VehicleGallery))
    root = find_root(root, "train_test_split/train_list.txt", "VehicleID_V1.0")
    lists = root / "train_test_split"
    files = {"train": lists / "train_list.txt", test_list: lists / f"test_list_{VEHICLES[test_list]}.txt"}
    listed = {part: _read(file) for part, file in files.items()}
    for part, file in files.items():
        check_count(listed[part], counts, part, list_file=file)
    class_names = dict.fromkeys(image.class_name for part in listed.values() for image in part)
    ks = (1, 5)
    protocol = SelfRetrieval(ks) if gallery == "all-others" else RandomGallery(ks)
    shared = {"name": "vehicleid", "image_size": image_size}
    return Split(
        image_part(root, listed["train"], class_names, **shared, list_file=files["train"]),
        image_part(root, listed[test_list], class_names, **shared, list_file=files[test_list], protocol=protocol),
    )


def _read(file: Path) -> list[ListedImage]:
    return [ListedImage(f"image/{image.zfill(7)}.jpg", vehicle) for image, vehicle in read_table(file, COLUMNS)]
