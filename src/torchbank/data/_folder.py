"""Images in folders, one folder a class."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torchbank.data._labelled_images import LabelledImages, Split
from torchbank.errors import BankValueError, FileFormatError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["FolderImages", "UnreadableImageError", "load_folder"]

LoneClasses = Literal["error", "drop", "keep"]

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class UnreadableImageError(FileFormatError):
    """An image file is truncated, empty or no image at all."""

    def __str__(self) -> str:
        # A DataLoader worker puts its traceback before the message; the sentence is the last line.
        return (
            super().__str__().strip().splitlines()[-1].removeprefix(f"{type(self).__module__}.{type(self).__name__}: ")
        )


class FolderImages(LabelledImages):
    """Image files, read when asked for: the middle square, scaled to `image_size`, in three channels.

    Args:
        root: The folder that `paths` are relative to.
        paths: Image files relative to `root`.
        labels: `(n,)` int64, indices into `class_names`.
        class_names: The name of each label.
        image_size: Height and width of every image, in pixels.
        crop: Side of the square that is cut out of the middle, as a share of the shorter side.
        name: What the data set is called; by default as `root` is.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[Path],
        labels: Int64[Tensor, " n"],
        *,
        class_names: Sequence[str],
        image_size: int,
        crop: float = 1.0,
        name: str | None = None,
    ) -> None:
        self.root = root
        self.paths = tuple(paths)
        self.labels = labels
        self.class_names = tuple(class_names)
        self.image_shape = (3, image_size, image_size)
        self.name = root.resolve().name if name is None else name
        self._crop = crop
        self._fingerprint: str | None = None

    def images(self, ids: Int64[Tensor, " batch"]) -> Float[Tensor, "batch channels height width"]:
        """Read several images, in the order of `ids`, as float32 in [0, 1].

        Raises:
            UnreadableImageError: A file cannot be decoded; the message names it.
        """
        if not len(ids):
            return torch.empty(0, *self.image_shape)
        pixels = np.stack([self._read(self.root / self.paths[i]) for i in ids.tolist()])
        return (
            torch.from_numpy(pixels)
            .permute(0, 3, 1, 2)
            .to(torch.float32, memory_format=torch.contiguous_format)
            .div_(255)
        )

    @property
    def fingerprint(self) -> str:
        """The sha256 of the image size, of the sorted relative paths, their sizes in bytes and their classes."""
        if self._fingerprint is None:
            digest = hashlib.sha256(f"image_size {self.image_shape[-1]}, crop {self._crop}\n".encode())
            for path, label in sorted(zip(self.paths, self.labels.tolist(), strict=True)):
                size, name = (self.root / path).stat().st_size, self.class_names[label]
                digest.update(f"{path.as_posix()}\0{size}\0{name}\n".encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _read(self, path: Path) -> np.ndarray:
        return np.asarray(_middle_square(_open(path), self.image_shape[-1], self._crop))


def load_folder(
    root: str | Path,
    *,
    image_size: int = 224,
    test_fraction: float = 0.5,
    seed: int = 0,
    lone_classes: LoneClasses = "error",
) -> Split:
    """Load `root/<class>/<image files>` and split its classes into train and test.

    Where `root` holds the folders `train` and `test` with class folders in both, these are the parts instead, and they
    may share classes.

    Labels number the classes in the order of their sorted names. Files that are no images by their suffix, and
    hidden files and folders, are passed over. Images are opened when they are read, not here.

    Args:
        root: The folder of class folders.
        image_size: Height and width of every image, in pixels.
        test_fraction: Part of the classes to test on, rounded to whole classes; not read where the parts are given.
        seed: Which classes: they are permuted with this seed, the last ones test; not read where the parts are given.
        lone_classes: What to do about a class with fewer than two images in its part, which has nothing to retrieve:
            raise, leave it out, or keep it (evaluation drops its queries and counts them; a class without any image
            is left out).

    Raises:
        BankValueError: There is no such folder, it holds no images, a class has fewer than two images, a value
            is out of range, or fewer than two classes would train or test.

    Example:
        >>> load_folder("no/such/place")
        Traceback (most recent call last):
        torchbank.errors.BankValueError: no folder at 'no/such/place'; expected one folder a class, with images in each
    """
    root = Path(root)
    _check_options(root, image_size=image_size, test_fraction=test_fraction, seed=seed, lone_classes=lone_classes)
    if _is_split(root):
        return _load_parts(root, image_size=image_size, lone_classes=lone_classes)
    files = _find_images(root, lone_classes=lone_classes)
    class_names = sorted(files)
    is_test = _choose_test_classes(root, len(class_names), test_fraction=test_fraction, seed=seed)
    parts = []
    for wanted in (False, True):
        chosen = {name: files[name] for name, test in zip(class_names, is_test, strict=True) if test == wanted}
        parts.append(_part(root, chosen, class_names, image_size))
    return Split(*parts)


def _is_split(root: Path) -> bool:
    return all(any(inner.is_dir() for inner in (root / part).glob("[!.]*")) for part in ("train", "test"))


def _load_parts(root: Path, *, image_size: int, lone_classes: LoneClasses) -> Split:
    parts = [(root / part, _find_images(root / part, lone_classes=lone_classes)) for part in ("train", "test")]
    class_names = sorted({name for _, files in parts for name in files})
    return Split(*(_part(place, files, class_names, image_size) for place, files in parts))


def _part(root: Path, files: dict[str, list[Path]], class_names: list[str], image_size: int) -> FolderImages:
    chosen = [(path, label) for label, name in enumerate(class_names) for path in files.get(name, ())]
    paths, labels = [path for path, _ in chosen], torch.tensor([label for _, label in chosen])
    return FolderImages(root, paths, labels, class_names=class_names, image_size=image_size)


def _check_options(root: Path, *, image_size: int, test_fraction: float, seed: int, lone_classes: LoneClasses) -> None:
    if not root.is_dir():
        what = "a file, not a folder, lies" if root.exists() else "no folder"
        msg = f"{what} at {str(root)!r}; expected one folder a class, with images in each"
        raise BankValueError(msg)
    if image_size < 1:
        msg = f"image_size is {image_size}; expected a number of pixels of 1 or more"
        raise BankValueError(msg)
    if not 0 < test_fraction < 1:
        msg = f"test_fraction is {test_fraction}; expected a part of the classes between 0 and 1, such as 0.5"
        raise BankValueError(msg)
    if seed < 0:
        msg = f"seed is {seed}; expected 0 or more"
        raise BankValueError(msg)
    if lone_classes not in get_args(LoneClasses):
        msg = f"lone_classes is {lone_classes!r}; expected one of {', '.join(map(repr, get_args(LoneClasses)))}"
        raise BankValueError(msg)


def _find_images(root: Path, *, lone_classes: LoneClasses) -> dict[str, list[Path]]:
    folders = [folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    files = {
        folder.name: sorted(
            path.relative_to(root)
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
        for folder in folders
    }
    if not any(files.values()):
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        msg = (
            f"no images in {str(root)!r} ({len(folders)} folders); expected <class>/<image> with a suffix of {suffixes}"
        )
        raise BankValueError(msg)
    lone = sorted(name for name, paths in files.items() if len(paths) < 2)
    if lone and lone_classes == "error":
        msg = (
            f"{len(lone)} of {len(files)} classes in {str(root)!r} have fewer than two images "
            f"({', '.join(lone[:3])}{', ...' if len(lone) > 3 else ''}); expected two or more each: add images, remove "
            'the folders, or give lone_classes="drop"'
        )
        raise BankValueError(msg)
    least = 2 if lone_classes == "drop" else 1
    return {name: paths for name, paths in files.items() if len(paths) >= least}


def _choose_test_classes(root: Path, classes: int, *, test_fraction: float, seed: int) -> list[bool]:
    test = round(classes * test_fraction)
    if min(test, classes - test) < 2:
        msg = (
            f"test_fraction {test_fraction} of the {classes} classes in {str(root)!r} leaves {classes - test} to train "
            f"and {test} to test; expected two or more of each: add class folders or change test_fraction"
        )
        raise BankValueError(msg)
    order = np.random.default_rng(seed).permutation(classes)
    chosen = set(order[classes - test :].tolist())
    return [label in chosen for label in range(classes)]


def _open(path: Path) -> "Image":
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            return _to_rgb(ImageOps.exif_transpose(file))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        msg = f"cannot read image {str(path)!r} ({error}); expected a whole image file: replace or remove it"
        raise UnreadableImageError(msg) from error


def _to_rgb(image: "Image") -> "Image":
    from PIL import Image

    if image.mode.startswith("I"):
        # PIL would clip 16-bit grey at 255.
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def _middle_square(image: "Image", size: int, crop: float) -> "Image":
    from PIL import Image

    # Only the middle square is seen in the end, so only that square is scaled.
    side = crop * min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return image.resize(
        (size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side), reducing_gap=3
    )
