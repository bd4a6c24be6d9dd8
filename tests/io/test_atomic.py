"""Files that appear whole or not at all."""

import json
import os
import stat

import pytest

from torchbank.errors import BankError, BankFileNotFoundError, BankValueError
from torchbank.io import atomic_write, write_json


def test_atomic_write__bytes_or_a_writer(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, b"first")
    assert path.read_bytes() == b"first"
    atomic_write(str(path), lambda temporary: temporary.write_text("second"))
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write__failing_writer_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fails_in_the_middle(temporary):
        temporary.write_text("half")
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        atomic_write(path, fails_in_the_middle)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write__writes_beside_the_target(tmp_path):
    seen = []
    path = tmp_path / "file"
    atomic_write(path, lambda temporary: (seen.append(temporary), temporary.write_text("x")))
    assert seen[0].parent == path.parent
    assert seen[0].name.startswith(".file.")


def test_atomic_write__follows_links_and_the_umask(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("old")
    link.symlink_to(path)
    before = os.umask(0o027)
    try:
        atomic_write(link, b"new")
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_atomic_write__missing_folder_or_a_folder(tmp_path):
    with pytest.raises(BankFileNotFoundError, match=r"the folder .*missing does not exist; create it first") as error:
        atomic_write(tmp_path / "missing" / "file", b"")
    assert isinstance(error.value, BankError)
    assert isinstance(error.value, FileNotFoundError)
    with pytest.raises(BankValueError, match="is a folder; name a file in it"):
        atomic_write(tmp_path, b"")
    assert not list(tmp_path.iterdir())


def test_write_json__is_readable_and_strict(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"name": "kanji", "scores": [1, 2.5, None]})
    assert json.loads(path.read_text()) == {"name": "kanji", "scores": [1, 2.5, None]}
    assert path.read_text().endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": float("nan")})
    with pytest.raises(TypeError):
        write_json(path, {"path": tmp_path})
    assert json.loads(path.read_text())["name"] == "kanji"
