"""IDX files, small ones and those of the Debian package where it is installed."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from torchbank import data
from torchbank.data._fashion_mnist import DEBIAN_FOLDER
from torchbank.errors import BankValueError, FileFormatError


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype("u1").tobytes()


def write_files(root: Path, *, suffix: str = "") -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    for part, count in (("train", 30), ("t10k", 12)):
        images, labels = random.integers(0, 256, (count, 28, 28)), random.permutation(count) % 10
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = gzip.compress(idx(array), mtime=0) if suffix else idx(array)
            (root / f"{part}-{kind}-ubyte{suffix}").write_bytes(content)
    return images, labels


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist__reads_what_the_files_hold(tmp_path, suffix):
    images, labels = write_files(tmp_path, suffix=suffix)
    split = data.load("fashion-mnist", root=tmp_path)
    assert (len(split.train), len(split.test)) == (30, 12)
    assert split.shares_classes
    batch = split.test.__getitems__(range(12))
    assert np.array_equal((batch.images * 255).round().numpy(), images[:, None])
    assert np.array_equal(batch.labels.numpy(), labels)
    assert split.train.class_names[0] == "T-shirt/top"


@pytest.mark.skipif(not Path(DEBIAN_FOLDER).is_dir(), reason="needs the Debian package dataset-fashion-mnist")
def test_fashion_mnist__of_debian():
    train, test = data.load("fashion-mnist")
    for part, count in ((train, 6_000), (test, 1_000)):
        assert part.labels.bincount().tolist() == 10 * [count]
        assert part.image_shape == (1, 28, 28)
    # Light clothes on black: the corners are black, the middle is not.
    images = test.images(torch.arange(1_000))
    assert images[..., 0, 0].mean() < 0.01
    assert images[..., 14, 14].mean() > 0.3


@pytest.mark.plain
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-labels-idx1-ubyte", idx(np.zeros((3, 28, 28))), "no whole IDX file of unsigned bytes with 1 axes"),
        ("train-images-idx3-ubyte", b"\x89PNG and more", "first four 89 50 4e 47"),
        ("train-images-idx3-ubyte", b"", "0 bytes"),
        ("train-images-idx3-ubyte", idx(np.zeros((30, 28, 28)))[:-1], "no whole IDX file"),
    ],
)
def test_fashion_mnist__says_which_file_is_wrong(tmp_path, name, content, message):
    write_files(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=message) as caught:
        data.load("fashion-mnist", root=tmp_path)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.plain
@pytest.mark.parametrize(
    "content", [b"not gzip", gzip.compress(idx(np.zeros((30, 28, 28))))[:-12]], ids=["no gzip", "cut short"]
)
def test_fashion_mnist__says_which_archive_is_wrong(tmp_path, content):
    write_files(tmp_path, suffix=".gz")
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"cannot read .*t10k-images-idx3-ubyte\.gz.* expected a whole gzip file"):
        data.load("fashion-mnist", root=tmp_path)


@pytest.mark.plain
def test_fashion_mnist__images_and_labels_must_fit(tmp_path):
    write_files(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(29)))
    with pytest.raises(BankValueError, match=r"labels \(29,\)"):
        data.load("fashion-mnist", root=tmp_path)


@pytest.mark.plain
def test_fashion_mnist__a_missing_file_says_where_to_get_it(tmp_path):
    write_files(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(BankValueError, match=r"no t10k-labels-idx1-ubyte, .* install the Debian package"):
        data.load("fashion-mnist", root=tmp_path)
