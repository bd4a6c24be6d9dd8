"""The data set `cars`: Stanford Cars, 196 models."""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from torchbank.data._image_lists import Count, ListedImage, half_the_classes
from torchbank.data._labelled_images import Split
from torchbank.errors import BankValueError, FileFormatError

__all__ = ["CARS_COUNTS", "load_cars"]

CARS_COUNTS: Mapping[str, Count] = {"train": Count(8_054, 98), "test": Count(8_131, 98)}
"""What the first and the second half of the classes hold."""
# One file for all images, or the development kit: where the classes are, and the folder that the paths are in.
ALL_IN_ONE = "cars_annos.mat"
NAMES = "devkit/cars_meta.mat"
KIT = {"devkit/cars_train_annos.mat": "cars_train", "devkit/cars_test_annos_withlabels.mat": "cars_test"}


def load_cars(root: str | Path, *, image_size: int = 224, counts: Mapping[str, Count] | None = CARS_COUNTS) -> Split:
    """Load Cars-196 as metric learning does: the first half of the classes trains, the second half tests.

    [Krause, Stark, Deng and Fei-Fei 2013](https://doi.org/10.1109/ICCVW.2013.77): 16,185 photographs of 196 models of
    cars. The published split is for classification and is not read, nor are the boxes. Each test image is a query, and
    all others are its gallery; papers report R@1, 2, 4 and 8. SciPy reads the annotations.

    Args:
        root: The folder of `cars_annos.mat` and `car_ims`; or of `devkit` (with `cars_train_annos.mat`, `cars_meta.mat`
            and `cars_test_annos_withlabels.mat`), `cars_train` and `cars_test`.
        image_size: Height and width of every image, in pixels.
        counts: What "train" and "test" must hold; None takes the annotations as they are.

    Returns:
        `FolderImages`.

    Raises:
        BankValueError: A file is missing, or the annotations hold another number of images or classes.
        FileFormatError: A file holds no annotations.

    Example:
        >>> load_cars("no/such/place")
        Traceback (most recent call last):
        torchbank.errors.BankValueError: no devkit/cars_meta.mat in 'no/such/place', nor cars_annos.mat; \
expected the annotations as they are published
    """
    root = Path(root)
    whole = (root / ALL_IN_ONE).is_file()
    files = {ALL_IN_ONE: ""} if whole else KIT
    names = _read(root, ALL_IN_ONE if whole else NAMES, "class_names")
    listed: dict[int, list[ListedImage]] = {}
    for file, folder in files.items():
        for number, path in _annotations(root, file):
            if not 1 <= number <= len(names):
                msg = f"{str(root / file)!r} has {path} in class {number}; expected 1 to {len(names)}"
                raise FileFormatError(msg)
            name = str(names[number - 1])
            listed.setdefault(number, []).append(ListedImage(f"{folder}/{path}".removeprefix("/"), name))
    list_file = root / (ALL_IN_ONE if whole else "devkit")
    return half_the_classes(root, listed, counts, name="cars", image_size=image_size, list_file=list_file)


def _annotations(root: Path, file: str) -> Iterator[tuple[int, str]]:
    """The number of the class of each image, and its path."""
    rows = _read(root, file, "annotations")
    path = "relative_im_path" if file == ALL_IN_ONE else "fname"
    if not {"class", path} <= set(rows.dtype.names or ()):
        msg = f"{str(root / file)!r} annotates with {rows.dtype.names}; expected class and {path} among them"
        raise FileFormatError(msg)
    for number, name in zip(rows["class"].tolist(), rows[path].tolist(), strict=True):
        yield int(number), str(name)


def _read(root: Path, file: str, variable: str) -> np.ndarray:
    """One variable of a MATLAB file."""
    path = root / file
    if not path.is_file():
        msg = f"no {file} in {str(root)!r}, nor {ALL_IN_ONE}; expected the annotations as they are published"
        raise BankValueError(msg)
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content: dict[str, Any] = loadmat(path, squeeze_me=True)
    except (MatReadError, OSError, TypeError, ValueError, zlib.error) as error:
        msg = f"cannot read {str(path)!r} ({error}); expected a whole MATLAB file"
        raise FileFormatError(msg) from error
    if variable not in content:
        msg = f"{str(path)!r} has no {variable}; expected the annotations as they are published"
        raise FileFormatError(msg)
    return np.atleast_1d(content[variable])
