"""Models of timm and transformers, where these optional packages are installed; nothing is downloaded."""

import pytest
import torch
from safetensors.torch import save_file

from torchbank.encoders import build
from torchbank.encoders._timm import build_timm
from torchbank.errors import BankKeyError, BankValueError

pytestmark = [pytest.mark.plain, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("channels", [1, 3])
def test_timm__takes_its_own_weights_and_any_channels(tmp_path, channels):
    pytest.importorskip("timm")
    shape = (channels, 32, 32)
    encoder = build_timm("resnet10t", dim=16, image_shape=shape, published=False)
    save_file(encoder.state_dict(), tmp_path / "w.safetensors")
    twin = build("timm:resnet10t", dim=16, image_shape=shape, weights=tmp_path / "w.safetensors")
    images = torch.rand(2, *shape)
    assert torch.equal(twin.eval()(images), encoder.eval()(images))
    assert twin(images).shape == (2, 16)


def test_timm__refuses_an_unknown_model():
    pytest.importorskip("timm")
    with pytest.raises(BankKeyError, match=r"timm has no model 'resnet19'; expected one of timm.list_models"):
        build("timm:resnet19", dim=16, image_shape=(3, 32, 32))


def vision_transformer(folder, channels):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        num_channels=channels,
    )
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    transformers.ViTImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[1, 2, 3]).save_pretrained(folder)
    return f"hf:{folder}"


def test_hugging_face__loads_a_folder_and_its_scale(tmp_path):
    encoder = build(vision_transformer(tmp_path, 3), dim=12, image_shape=(3, 32, 32))
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, 12)
    torch.testing.assert_close(encoder[0].mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))


def test_hugging_face__takes_weights_from_a_file(tmp_path):
    name = vision_transformer(tmp_path, 3)
    encoder = build(name, dim=12, image_shape=(3, 32, 32))
    save_file(encoder.state_dict(), tmp_path / "w.safetensors")
    twin = build(name, dim=12, image_shape=(3, 32, 32), weights=tmp_path / "w.safetensors")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(twin.eval()(images), encoder.eval()(images))


@pytest.mark.parametrize(
    ("channels", "shape", "message"),
    [
        (1, (3, 32, 32), r"takes images with 1 channel \(grey\), the data set has 3 channels \(colour\)"),
        (3, (1, 32, 32), r"takes images with 3 channels \(colour\), the data set has 1 channel \(grey\)"),
        (3, (3, 40, 40), r"does not take images of 3 channels \(colour\) and 40 x 40 pixels: Input image size"),
    ],
)
def test_hugging_face__refuses_other_images(tmp_path, channels, shape, message):
    with pytest.raises(BankValueError, match=message):
        build(vision_transformer(tmp_path, channels), dim=12, image_shape=shape)
