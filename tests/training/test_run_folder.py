"""Run folders are never overwritten."""

import pytest

from torchbank.errors import BankValueError, FileFormatError
from torchbank.training import RunFolder


def test_create__in_an_empty_or_new_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new/inside"):
        assert RunFolder.create(tmp_path / name, {"seed": 1}).read_config() == {"seed": 1}


@pytest.mark.parametrize("kind", ["run", "file"])
def test_create__what_exists_is_left_alone(tmp_path, kind):
    path = tmp_path / kind
    if kind == "run":
        RunFolder.create(path, {"seed": 1})
    else:
        path.write_text("mine")
    with pytest.raises(BankValueError, match=r"exists already.*--resume"):
        RunFolder.create(path, {"seed": 2})
    assert path.read_text() == "mine" if kind == "file" else RunFolder.open(path).read_config() == {"seed": 1}


def test_open__no_run_in_it(tmp_path):
    with pytest.raises(BankValueError, match="is not a run folder"):
        RunFolder.open(tmp_path)


def test_read_summary__run_not_finished(tmp_path):
    with pytest.raises(BankValueError, match="has not finished"):
        RunFolder.create(tmp_path / "run", {}).read_summary()


@pytest.mark.parametrize("content", ["{", "[1]", "\xff"])
def test_read_config__damaged(tmp_path, content):
    folder = RunFolder.create(tmp_path / "run", {})
    folder.config.write_bytes(content.encode("latin-1"))
    with pytest.raises(FileFormatError, match=r"config\.json"):
        folder.read_config()
