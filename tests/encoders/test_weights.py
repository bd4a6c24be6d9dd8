"""Weights from files: what is read, unwrapped and refused."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from torchbank.encoders import build
from torchbank.errors import BankValueError, FileFormatError

SHAPE = (1, 16, 16)


def trained():
    torch.manual_seed(7)
    encoder = build("convnet", dim=8, image_shape=SHAPE)
    encoder(torch.rand(4, *SHAPE))
    return encoder


def assert_loads(path, expected):
    encoder = build("convnet", dim=8, image_shape=SHAPE, weights=path)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], tensor), name


def test_weights__safetensors(tmp_path):
    save_file(trained().state_dict(), tmp_path / "w.safetensors")
    assert_loads(tmp_path / "w.safetensors", trained())
    assert_loads(str(tmp_path / "w.safetensors"), trained())


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": {f"module.encoder.{name}": tensor for name, tensor in state.items()}},
    ],
)
def test_weights__state_dicts_as_frameworks_save_them(tmp_path, suffix, wrap):
    path = (tmp_path / "weights").with_suffix(suffix)
    torch.save(wrap(trained().state_dict()), path)
    assert_loads(path, trained())


class Payload:
    """Would run code when unpickled."""

    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.plain
def test_weights__no_object_is_unpickled(tmp_path, capsys):
    torch.save({"x": Payload()}, tmp_path / "bad.pt")
    (tmp_path / "worse.pt").write_bytes(pickle.dumps(Payload(), protocol=2))
    for name in ("bad.pt", "worse.pt"):
        with pytest.raises(FileFormatError, match="expected a whole file of tensors only"):
            build("convnet", dim=8, image_shape=SHAPE, weights=tmp_path / name)
    assert capsys.readouterr().out == ""


@pytest.mark.plain
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("kept", [0, 5, 100, -100])
def test_weights__a_truncated_file_is_refused(tmp_path, name, kept):
    path = tmp_path / name
    if name == "w.pt":
        torch.save(trained().state_dict(), path)
    else:
        save_file(trained().state_dict(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FileFormatError, match=r"cannot read weights from .*expected a whole") as caught:
        build("convnet", dim=8, image_shape=SHAPE, weights=path)
    assert "\n" not in str(caught.value)


@pytest.mark.plain
@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.ones(3)])
def test_weights__a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(FileFormatError, match="holds no state dict"):
        build("convnet", dim=8, image_shape=SHAPE, weights=tmp_path / "w.pt")


@pytest.mark.plain
def test_weights__a_wrong_path_or_suffix_is_refused(tmp_path):
    with pytest.raises(BankValueError, match=r"no weights file at 'no\.pt'; expected a \.safetensors"):
        build("convnet", dim=8, image_shape=SHAPE, weights="no.pt")
    (tmp_path / "w.onnx").write_bytes(b"")
    with pytest.raises(BankValueError, match=r"suffix '\.onnx'; expected \.safetensors, \.pt or \.pth"):
        build("convnet", dim=8, image_shape=SHAPE, weights=tmp_path / "w.onnx")


@pytest.mark.plain
@pytest.mark.parametrize(
    ("name", "dim", "image_shape", "message"),
    [
        ("convnet", 9, SHAPE, r"head.bias is given as \(8,\), expected \(9,\)"),
        ("convnet", 8, (3, 16, 16), r"for images with 1 channel \(grey\), the encoder for 3 channels \(colour\)"),
        ("resnet18-small", 8, SHAPE, r"tensors are missing \(stages.*; \d+ tensors are unknown \(blocks"),
    ],
)
def test_weights__those_of_another_encoder_are_refused(tmp_path, name, dim, image_shape, message):
    save_file(trained().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(BankValueError, match=message):
        build(name, dim=dim, image_shape=image_shape, weights=tmp_path / "w.safetensors")
