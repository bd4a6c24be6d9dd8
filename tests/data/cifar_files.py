"""Small CIFAR archives in the four published layouts."""

import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import ClassVar

import numpy as np

BINARY_FILES = {10: [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"], 100: ["train.bin", "test.bin"]}
PYTHON_FILES = {10: [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"], 100: ["train", "test"]}
IMAGES_A_FILE = 4


class _Python2Pickler(pickle._Pickler):
    """Writes strings and bytes alike as the `str` of Python 2, in which the published pickles are."""

    def _save_string(self, value):
        content = value.encode("latin-1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, str: _save_string, bytes: _save_string}


def python2_pickle(content: object) -> bytes:
    file = io.BytesIO()
    _Python2Pickler(file, protocol=2).dump(content)
    # The module that holds this function moved in NumPy 2.
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def arrays_of(classes: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels and (fine) labels of each file, by its name in the python version."""
    random = np.random.default_rng(0)
    return {
        file: (
            random.integers(0, 256, (IMAGES_A_FILE, 3072)).astype(np.uint8),
            random.integers(0, classes, IMAGES_A_FILE),
        )
        for file in PYTHON_FILES[classes]
    }


def names_of(classes: int) -> list[str]:
    return [f"class_{label}" for label in range(classes)]


def binary_files(classes: int) -> dict[str, bytes]:
    files = {}
    for name, (pixels, labels) in zip(BINARY_FILES[classes], arrays_of(classes).values(), strict=True):
        coarse = [labels // 5] if classes == 100 else []
        rows = np.concatenate([*(byte[:, None] for byte in (*coarse, labels)), pixels], axis=1)
        files[f"cifar-{'10-batches-bin' if classes == 10 else '100-binary'}/{name}"] = rows.astype(np.uint8).tobytes()
    names = ("\n".join(names_of(classes)) + "\n").encode()
    if classes == 10:
        return {**files, "cifar-10-batches-bin/batches.meta.txt": names + b"\n"}
    return {**files, "cifar-100-binary/fine_label_names.txt": names, "cifar-100-binary/coarse_label_names.txt": b"x\n"}


def python_files(classes: int, *, dump=python2_pickle) -> dict[str, bytes]:
    folder, key, names, meta = {
        10: ("cifar-10-batches-py", "labels", "label_names", "batches.meta"),
        100: ("cifar-100-python", "fine_labels", "fine_label_names", "meta"),
    }[classes]
    files = {
        f"{folder}/{name}": dump({"data": pixels, key: labels.tolist(), "filenames": ["a.png"]})
        for name, (pixels, labels) in arrays_of(classes).items()
    }
    return {**files, f"{folder}/{meta}": dump({names: names_of(classes), "num_vis": 3072})}


def write_folder(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def write_archive(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
