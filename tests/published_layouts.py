"""Small folders of kanji images in the layouts of published data sets."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from torchbank import data

KANJI = data.load("kanji").train
CHARACTERS = KANJI.labels.unique()


def write_image(path: Path, row: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (KANJI.image(row)[0].numpy() * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(path)


def rows_of(label: int, images: int) -> list[int]:
    """The first rows of a character."""
    return (KANJI.labels == CHARACTERS[label]).nonzero()[:images, 0].tolist()


def write_sop(root: Path, *, train: int = 6, test: int = 5, images: int = 4) -> Path:
    """Classes numbered from 1, in the kinds bicycle and kettle by turns."""
    number = 0
    for part, first, last in (("train", 1, train), ("test", train + 1, train + test)):
        lines = ["image_id class_id super_class_id path"]
        for label in range(first, last + 1):
            kind = ("bicycle", "kettle")[label % 2]
            for place, row in enumerate(rows_of(label, images)):
                number += 1
                path = f"{kind}_final/{111000 + label}_{place}.JPG"
                lines.append(f"{number} {label} {1 + label % 2} {path}")
                write_image(root / path, row)
        (root / f"Ebay_{part}.txt").write_text("\n".join(lines) + "\n")
    return root


def write_in_shop(root: Path, *, train: int = 6, test: int = 5, images: int = 4) -> Path:
    """The first image of a test class is a query; the first training class has one image only."""
    lines = []
    for item in range(1, train + test + 1):
        kind = ("WOMEN/Dresses", "MEN/Pants")[item % 2]
        for place, row in enumerate(rows_of(item, 1 if item == 1 else images)):
            path = f"img/{kind}/id_{item:08d}/{place + 1:02d}_1_front.jpg"
            part = "train" if item <= train else "gallery" if place else "query"
            # Columns are aligned with blanks.
            lines.append(f"{path:<60} id_{item:08d} {part}")
            write_image(root / path, row)
    head = [str(len(lines)), "image_name item_id evaluation_status"]
    (root / "Eval").mkdir()
    (root / "Eval" / "list_eval_partition.txt").write_text("\n".join(head + lines) + "\n")
    return root


def write_vehicle_id(root: Path, *, images: int = 4) -> Path:
    """Six vehicles train; the lists of 800, 1,600 and 2,400 hold two, three and four others."""
    lists = root / "train_test_split"
    lists.mkdir(parents=True)
    numbers = {"train_list": range(1, 7), "test_list_800": (7, 8), "test_list_1600": (7, 8, 9)}
    for name, vehicles in {**numbers, "test_list_2400": range(7, 11)}.items():
        lines = []
        for vehicle in vehicles:
            for place, row in enumerate(rows_of(vehicle, images)):
                image = f"{10 * vehicle + place:07d}"
                lines.append(f"{image} {vehicle:05d}")
                write_image(root / "image" / f"{image}.jpg", row)
        (lists / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def write_cub(root: Path, *, classes: int = 6, images: int = 3) -> Path:
    paths, labels = [], []
    for label in range(1, classes + 1):
        for place, row in enumerate(rows_of(label, images)):
            folder = f"{label:03d}.Bird_{label}"
            paths.append(f"{len(paths) + 1} {folder}/Bird_{label}_{place:04d}.jpg")
            labels.append(f"{len(paths)} {label}")
            write_image(root / "images" / folder / f"Bird_{label}_{place:04d}.jpg", row)
    (root / "images.txt").write_text("\n".join(paths) + "\n")
    (root / "image_class_labels.txt").write_text("\n".join(labels) + "\n")
    return root


def write_cars(root: Path, *, classes: int = 6, images: int = 3, kit: bool = False) -> Path:
    """One file of annotations, or those of the development kit, where the last image of a class is in `cars_test`."""
    rows = [(label, row) for label in range(1, classes + 1) for row in rows_of(label, images)]
    names = np.array([f"Car {label} Coupe 2012" for label in range(1, classes + 1)], dtype=object)
    in_test = [label != following for (label, _), (following, _) in pairwise([*rows, (0, 0)])]
    (root / "devkit").mkdir(parents=True)
    if not kit:
        paths = [f"car_ims/{number:06d}.jpg" for number in range(1, len(rows) + 1)]
        annotations = _annotate(paths, [label for label, _ in rows], "relative_im_path")
        scipy.io.savemat(root / "cars_annos.mat", {"annotations": annotations, "class_names": names})
        for path, (_, row) in zip(paths, rows, strict=True):
            write_image(root / path, row)
        return root
    scipy.io.savemat(root / "devkit" / "cars_meta.mat", {"class_names": names})
    for part, file in (("train", "cars_train_annos"), ("test", "cars_test_annos_withlabels")):
        chosen = [row for row, test in zip(rows, in_test, strict=True) if test == (part == "test")]
        files = [f"{number:05d}.jpg" for number in range(1, len(chosen) + 1)]
        annotations = _annotate(files, [label for label, _ in chosen], "fname")
        scipy.io.savemat(root / "devkit" / f"{file}.mat", {"annotations": annotations})
        for name, (_, row) in zip(files, chosen, strict=True):
            write_image(root / f"cars_{part}" / name, row)
    return root


def _annotate(paths: list[str], labels: list[int], name: str) -> np.ndarray:
    """As MATLAB's array of structures, with a box beside."""
    annotations = np.zeros((1, len(paths)), dtype=[("bbox_x1", object), ("class", object), (name, object)])
    for place, (path, label) in enumerate(zip(paths, labels, strict=True)):
        annotations[0, place] = (np.uint8(1), np.uint8(label), path)
    return annotations
