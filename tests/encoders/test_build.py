"""Encoders by name: what users bring, what is missing, what does not fit."""

import importlib.util
import sys

import pytest
import torch
from torch import nn

from torchbank import encoders
from torchbank.encoders._normalized_images import NormalizedImages
from torchbank.errors import BankKeyError, BankTypeError, BankValueError, FileFormatError

SHAPE = (1, 16, 16)


class Flat(nn.Module):
    """A linear encoder, simple enough for TorchScript."""

    def __init__(self, dim=8, image_shape=SHAPE):
        super().__init__()
        channels, height, width = image_shape
        self.head = nn.Linear(channels * height * width, dim)

    def forward(self, images):
        return self.head(images.flatten(1))


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("my_model", "my_broken_model"):
        sys.modules.pop(name, None)


MY_MODEL = """
from torch import nn

def flat(dim, image_shape):
    channels, height, width = image_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, dim))

def too_wide(dim, image_shape):
    return flat(dim + 1, image_shape)

def maps(dim, image_shape):
    return nn.Conv2d(image_shape[0], dim, 1)

def colour_only(dim, image_shape):
    return flat(dim, (3, *image_shape[1:]))

def several(dim, image_shape):
    class Several(nn.Module):
        def forward(self, images):
            return images, images
    return Several()

def nothing(dim, image_shape):
    return None
"""


def test_build__calls_a_function_of_a_module_in_the_working_folder(working_folder):
    (working_folder / "my_model.py").write_text(MY_MODEL)
    path = list(sys.path)
    encoder = encoders.build("my_model:flat", dim=8, image_shape=SHAPE)
    assert encoder(torch.rand(3, *SHAPE)).shape == (3, 8)
    assert encoder.training
    assert sys.path == path


@pytest.mark.plain
@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("my_model:flta", BankKeyError, "module 'my_model' has no 'flta'; expected a function"),
        ("my_modle:flat", BankValueError, "cannot import 'my_modle' .*No module named 'my_modle'"),
        ("my_broken_model:flat", BankValueError, "cannot import 'my_broken_model' .*No module named 'nowhere'"),
        ("my_model:nothing", BankTypeError, "my_model:nothing returned NoneType; expected a torch.nn.Module"),
        ("my_model:too_wide", BankValueError, r"gives \(1, 9\) for one image; expected \(1, 8\)"),
        ("my_model:maps", BankValueError, r"gives \(1, 8, 16, 16\) for one image"),
        ("my_model:several", BankValueError, "gives tuple for one image"),
        (
            "my_model:colour_only",
            BankValueError,
            r"does not take images of 1 channel \(grey\) and 16 x 16 pixels: mat1",
        ),
    ],
)
def test_build__says_what_is_wrong_with_a_users_function(working_folder, name, error, message):
    (working_folder / "my_model.py").write_text(MY_MODEL)
    (working_folder / "my_broken_model.py").write_text("import nowhere")
    with pytest.raises(error, match=message):
        encoders.build(name, dim=8, image_shape=SHAPE)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_build__loads_torchscript(tmp_path):
    scripted = torch.jit.script(Flat())
    scripted.save(str(tmp_path / "flat.pt"))
    encoder = encoders.build(f"torchscript:{tmp_path / 'flat.pt'}", dim=8, image_shape=SHAPE)
    images = torch.rand(3, *SHAPE)
    assert torch.equal(encoder(images), scripted(images))
    assert encoder.training


@pytest.mark.plain
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_build__refuses_a_torchscript_file_that_is_none(tmp_path):
    with pytest.raises(BankValueError, match="no TorchScript file at 'no"):
        encoders.build("torchscript:no.pt", dim=8, image_shape=SHAPE)
    foreign = tmp_path / "foreign.pt"
    foreign.write_bytes(b"something else")
    with pytest.raises(FileFormatError, match=r"cannot read .*foreign.pt.* as TorchScript"):
        encoders.build(f"torchscript:{foreign}", dim=8, image_shape=SHAPE)


@pytest.mark.plain
@pytest.mark.parametrize("name", ["resnet", "convnet:", "timm", ":f", "m:", ""])
def test_build__unknown_name_lists_the_choices(name):
    with pytest.raises(BankKeyError) as caught:
        encoders.build(name, dim=8, image_shape=SHAPE)
    choices = "convnet, resnet18-small, resnet50, ngrams, timm:NAME, hf:NAME, torchscript:FILE, module:function"
    assert str(caught.value) == f"unknown encoder {name!r}; expected one of {choices}"


@pytest.mark.plain
@pytest.mark.parametrize(("dim", "image_shape"), [(0, SHAPE), (8, (1, 0, 4)), (8, (16, 16))])
def test_build__refuses_sizes_below_one(dim, image_shape):
    with pytest.raises(BankValueError, match="expected a dim of 1 or more and"):
        encoders.build("convnet", dim=dim, image_shape=image_shape)


@pytest.mark.plain
@pytest.mark.parametrize(("name", "package"), [("timm:resnet18", "timm"), ("hf:some/model", "transformers")])
def test_build__says_which_package_is_missing(name, package):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(BankValueError, match=rf"{name} needs the package {package}, .* \(pip install {package}\)"):
        encoders.build(name, dim=8, image_shape=(3, 32, 32))


def test_build__draws_the_same_weights_from_the_same_seed():
    def weights():
        torch.manual_seed(4)
        return torch.cat([p.flatten() for p in encoders.build("convnet", dim=8, image_shape=SHAPE).parameters()])

    assert torch.equal(weights(), weights())


def test_build__the_check_image_leaves_no_trace():
    torch.manual_seed(4)
    encoder = encoders.build("convnet", dim=8, image_shape=SHAPE)
    state = torch.get_rng_state()
    torch.manual_seed(4)
    bare = encoders.ConvNet(8, channels=1)
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in bare.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], tensor)


def test_normalized_images__scales_each_channel():
    images = torch.rand(2, 3, 4, 4)
    scaled = NormalizedImages((0.1, 0.2, 0.3), (1.0, 2.0, 4.0), channels=3)(images)
    torch.testing.assert_close(scaled[:, 2], (images[:, 2] - 0.3) / 4)


@pytest.mark.plain
def test_normalized_images__refuses_grey_images_for_a_colour_network():
    module = NormalizedImages((0.1, 0.2, 0.3), (1.0, 2.0, 4.0), channels=3)
    with pytest.raises(BankValueError, match=r"images with 1 channel \(grey\); expected .* 3 channels"):
        module(torch.rand(2, 1, 4, 4))


def test_normalized_images__averages_colour_for_grey_and_stays_out_of_weights():
    module = NormalizedImages((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), channels=1)
    torch.testing.assert_close(module(torch.ones(1, 1, 1, 1)), torch.full((1, 1, 1, 1), 0.4))
    assert not module.state_dict()
