"""CIFAR in its four published layouts, unpacked and not; and files that are not what they should be."""

import os
import pickle
from functools import partial

import numpy as np
import pytest
from cifar_files import arrays_of, binary_files, names_of, python_files, write_archive, write_folder

from torchbank import data
from torchbank.errors import BankValueError, FileFormatError

_FILES = {
    "binary": binary_files,
    "python": python_files,
    "python 3": partial(python_files, dump=partial(pickle.dumps, protocol=3)),
}
_ARCHIVES = {
    (10, "binary"): "cifar-10-binary.tar.gz",
    (10, "python"): "cifar-10-python.tar.gz",
    (100, "binary"): "cifar-100-binary.tar.gz",
    (100, "python"): "cifar-100-python.tar.gz",
}


@pytest.mark.parametrize("place", ["folder", "inside", "archive"])
@pytest.mark.parametrize("version", _FILES)
@pytest.mark.parametrize("classes", [10, 100])
def test_cifar__reads_what_the_files_hold(tmp_path, classes, version, place):
    files = _FILES[version](classes)
    root = tmp_path
    if place == "archive":
        write_archive(tmp_path / _ARCHIVES[classes, version.split()[0]], files)
    else:
        write_folder(tmp_path, files)
        root = tmp_path / next(iter(files)).split("/")[0] if place == "inside" else tmp_path
    split = data.load(f"cifar{classes}", root=root)
    assert split.train.class_names == tuple(names_of(classes))
    *train, test = arrays_of(classes).values()
    for part, expected in ((split.train, train), (split.test, [test])):
        pixels, labels = (np.concatenate(arrays) for arrays in zip(*expected, strict=True))
        batch = part.__getitems__(range(len(part)))
        assert np.array_equal((batch.images * 255).round().numpy(), pixels.reshape(-1, 3, 32, 32))
        assert np.array_equal(batch.labels.numpy(), labels)


class _Trap:
    """Makes a file where it is unpickled as pickle would."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.plain
@pytest.mark.parametrize("where", ["data_batch_3", "batches.meta"])
def test_cifar__runs_nothing_that_a_pickle_names(tmp_path, where):
    write_folder(tmp_path, python_files(10))
    trap = pickle.dumps({"data": _Trap(tmp_path / "sprung"), "labels": []}, protocol=2)
    (tmp_path / "cifar-10-batches-py" / where).write_bytes(trap)
    with pytest.raises(FileFormatError, match=rf"cannot read cifar-10-batches-py/{where} \(it names (posix|nt).mkdir"):
        data.load("cifar10", root=tmp_path)
    assert not (tmp_path / "sprung").exists()


def _pickled(**content):
    return pickle.dumps(content, protocol=3)


_WRONG = {
    "truncated": (python_files(10)["cifar-10-batches-py/data_batch_2"][:-100], "cannot read"),
    "empty": (b"", "cannot read"),
    "no pickle": (b"PK\x03\x04 something else", "cannot read"),
    "a list": (pickle.dumps([1, 2]), "holds a list; expected a pickled dictionary"),
    "another file": (_pickled(label_names=["a"]), "holds label_names, 'data' of shape (0,)"),
    "other images": (_pickled(data=np.zeros((4, 28), np.uint8), labels=[0] * 4), "'data' of shape (4, 28)"),
    "floats": (_pickled(data=np.zeros((4, 3072)), labels=[0] * 4), "is not of unsigned bytes"),
    "objects": (_pickled(data=np.array([{}]), labels=[0]), "is not of unsigned bytes"),
}


@pytest.mark.plain
@pytest.mark.parametrize("wrong", _WRONG)
def test_cifar__says_which_pickle_is_wrong(tmp_path, wrong):
    content, message = _WRONG[wrong]
    write_folder(tmp_path, python_files(10))
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(content)
    with pytest.raises(FileFormatError) as caught:
        data.load("cifar10", root=tmp_path)
    assert message in str(caught.value)
    assert "cifar-10-batches-py/data_batch_2" in str(caught.value)


@pytest.mark.plain
@pytest.mark.parametrize("content", [b"", b"x" * 3072])
def test_cifar__says_which_binary_file_is_wrong(tmp_path, content):
    write_folder(tmp_path, binary_files(100))
    (tmp_path / "cifar-100-binary" / "train.bin").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"cifar-100-binary/train.bin has [\d,]+ bytes; .* multiple of 3,074"):
        data.load("cifar100", root=tmp_path)


@pytest.mark.plain
def test_cifar__labels_of_another_set_are_refused(tmp_path):
    files = binary_files(10)
    files["cifar-10-batches-bin/test_batch.bin"] = b"\xff" + bytes(3072)
    write_folder(tmp_path, files)
    with pytest.raises(BankValueError, match="labels run from 255 to 255, but there are 10 class names"):
        data.load("cifar10", root=tmp_path)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an archive", "expected a whole .tar.gz archive"),
        ("truncated", "expected a whole .tar.gz archive"),
        ("foreign", "no cifar-10-batches-bin/data_batch_1.bin in"),
    ],
)
def test_cifar__says_which_archive_is_wrong(tmp_path, content, message):
    path = tmp_path / "cifar-10-binary.tar.gz"
    write_archive(path, binary_files(100 if content == "foreign" else 10))
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "truncated":
        path.write_bytes(path.read_bytes()[:-2_000])
    with pytest.raises(FileFormatError, match=message) as caught:
        data.load("cifar10", root=tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.plain
def test_cifar__a_folder_of_another_set_lists_what_was_expected(tmp_path):
    write_folder(tmp_path, binary_files(100))
    with pytest.raises(BankValueError, match=r"no cifar10 in .*; expected one of cifar-10-binary.tar.gz, cifar-10-bat"):
        data.load("cifar10", root=tmp_path)


@pytest.mark.plain
def test_cifar__a_folder_with_a_file_missing_names_it(tmp_path):
    write_folder(tmp_path, binary_files(10))
    (tmp_path / "cifar-10-batches-bin" / "data_batch_4.bin").unlink()
    with pytest.raises(BankValueError, match=r"no file 'data_batch_4.bin' in .*cifar-10-batches-bin"):
        data.load("cifar10", root=tmp_path)
