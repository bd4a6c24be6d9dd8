"""The file format."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from torchbank.errors import BankError, BankFileNotFoundError, FileFormatError
from torchbank.io import read_header, read_tensors, write_pieces, write_tensors

HEADER = {"kind": "test", "sizes": [1, 2], "nested": {"name": "ö"}}


def tensors():
    return {
        "matrix": torch.arange(6.0).view(2, 3),
        "count": torch.tensor(7),
        "none": torch.zeros(0, 4, dtype=torch.float16),
        "flags": torch.tensor([True, False]),
        "narrow": torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
    }


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_tensors__round_trip(tmp_path):
    write_tensors(tmp_path / "file", tensors(), HEADER)
    found, header = read_tensors(tmp_path / "file")
    assert_equal(found, tensors())
    assert header == HEADER
    assert read_header(str(tmp_path / "file")) == HEADER
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_tensors__other_tools_read_them(tmp_path):
    write_tensors(tmp_path / "file", tensors(), HEADER)
    assert_equal(load_file(tmp_path / "file"), tensors())


def test_tensors__views_and_shared_memory(tmp_path):
    matrix = torch.arange(12.0).view(3, 4)
    given = {"whole": matrix, "again": matrix, "columns": matrix[:, 1:3], "transposed": matrix.T}
    given["learnt"] = torch.nn.Parameter(torch.ones(2))
    write_tensors(tmp_path / "file", given, {})
    assert_equal(read_tensors(tmp_path / "file")[0], given)


def test_tensors__are_read_into_memory_of_their_own(tmp_path):
    write_tensors(tmp_path / "file", tensors(), {})
    found, _ = read_tensors(tmp_path / "file")
    found["matrix"].zero_()
    assert_equal(read_tensors(tmp_path / "file")[0], tensors())


def test_write__what_json_cannot_hold_writes_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_tensors(tmp_path / "file", tensors(), {"dtype": torch.float32})
    assert not list(tmp_path.iterdir())


def damaged(path, how):
    content = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("not a bank, but a long text about banks of rivers and of money")
    elif how == "pickle":
        torch.save({"a": torch.ones(2)}, path)
    elif how == "extended":
        path.write_bytes(content + b"more")
    else:
        path.write_bytes(content[: int(len(content) * how)])


@pytest.mark.parametrize("read", [read_tensors, read_header])
@pytest.mark.parametrize("how", ["empty", "text", "pickle", "extended", 0.01, 0.5, 0.9, 0.999])
def test_read__truncated_or_foreign_file(tmp_path, read, how):
    path = tmp_path / "file"
    write_tensors(path, tensors(), HEADER)
    damaged(path, how)
    with pytest.raises(FileFormatError, match="is truncated or not a torchbank file") as error:
        read(path)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, BankError)


@pytest.mark.parametrize("read", [read_tensors, read_header])
def test_read__safetensors_of_others(tmp_path, read):
    path = tmp_path / "file"
    for metadata in (None, {"format": "pt"}):
        save_file(tensors(), path, metadata)
        with pytest.raises(FileFormatError, match="is a safetensors file that torchbank did not write"):
            read(path)
    save_file(tensors(), path, {"torchbank": "{"})
    with pytest.raises(FileFormatError, match="has a header that cannot be read"):
        read(path)
    for content in ([], {"format": 1}):
        save_file(tensors(), path, {"torchbank": json.dumps(content)})
        with pytest.raises(FileFormatError, match="has a header that cannot be read"):
            read(path)
    save_file(tensors(), path, {"torchbank": json.dumps({"format": 2, "header": {}})})
    with pytest.raises(FileFormatError, match=r"is of format version 2; this torchbank reads version 1, so update"):
        read(path)


@pytest.mark.parametrize("read", [read_tensors, read_header])
def test_read__no_file(tmp_path, read):
    with pytest.raises(BankFileNotFoundError, match=r"there is no file .*missing") as error:
        read(tmp_path / "missing")
    assert isinstance(error.value, FileNotFoundError)
    with pytest.raises(FileFormatError, match="is a folder; expected a file"):
        read(tmp_path)


def test_pieces__the_tensors_that_they_make(tmp_path):
    tensors = {"rows": torch.rand(5, 3, dtype=torch.float64), "half": torch.rand(5).half(), "seen": torch.ones(()) > 0}
    shapes = {name: tensor.to("meta") for name, tensor in tensors.items()}
    pieces = {"rows": [tensors["rows"][:2], tensors["rows"][2:]], "half": tensors["half"].split(1)}
    write_pieces(tmp_path / "file", shapes, lambda name: pieces.get(name, [tensors["seen"]]), {"of": "pieces"})
    read, header = read_tensors(tmp_path / "file")
    assert header == {"of": "pieces"}
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
