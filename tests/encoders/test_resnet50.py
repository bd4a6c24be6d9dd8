"""ResNet-50: its size, its pooling, and the files that torchvision publishes."""

import functools
import hashlib

import pytest
import torch

from torchbank.encoders import ResNet50, build
from torchbank.encoders import _resnet50 as resnet50
from torchbank.errors import BankValueError

SHAPE = (3, 32, 32)


@functools.cache
def published_state():
    """A state dict as torchvision's ResNet-50 has it: this trunk, and a classifier of 1,000 classes."""
    torch.manual_seed(3)
    trunk = {name: value for name, value in ResNet50(4).state_dict().items() if not name.startswith("head.")}
    return {**trunk, "fc.weight": torch.rand(1_000, 2_048), "fc.bias": torch.rand(1_000)}


def test_resnet50__is_torchvisions_without_its_classifier():
    # torchvision's ResNet-50 has 25,557,032 parameters in 161 tensors, 2,049,000 of them in the classifier.
    parameters = {name: value.numel() for name, value in ResNet50(128).named_parameters() if "head" not in name}
    assert sum(parameters.values()) == 25_557_032 - 2_049_000
    assert len(parameters) == 161 - 2
    names = ("conv1.weight", "bn1.bias", "layer1.0.downsample.0.weight", "layer3.5.conv3.weight", "layer4.2.bn2.bias")
    assert parameters.keys() >= set(names)


def test_resnet50__pools_by_the_maximum():
    torch.manual_seed(0)
    encoder = ResNet50(8).eval()
    features = []
    encoder.layer4.register_forward_hook(lambda *arguments: features.append(arguments[2]))
    embeddings = encoder(torch.rand(2, *SHAPE))
    assert features[0].shape == (2, 2_048, 1, 1)
    larger = encoder(torch.rand(2, 3, 96, 64))
    assert features[1].shape == (2, 2_048, 3, 2)
    for given, feature in ((embeddings, features[0]), (larger, features[1])):
        torch.testing.assert_close(given, encoder.head(feature.flatten(2).max(dim=2).values))


def test_resnet50__takes_a_published_file_without_its_classifier(tmp_path):
    state = published_state()
    torch.save(state, tmp_path / "resnet50.pth")
    torch.manual_seed(9)
    encoder = build("resnet50", dim=8, image_shape=SHAPE, weights=tmp_path / "resnet50.pth")
    torch.manual_seed(9)
    head = ResNet50(8).head
    assert torch.equal(encoder.head.weight, head.weight)
    for name, value in encoder.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(value, state[name]), name
    torch.save(encoder.state_dict(), tmp_path / "whole.pth")
    again = build("resnet50", dim=8, image_shape=SHAPE, weights=tmp_path / "whole.pth")
    assert torch.equal(again.head.weight, encoder.head.weight)


def test_resnet50__published_weights_are_fetched_once(tmp_path, monkeypatch):
    torch.save(published_state(), tmp_path / "resnet50-00000000.pth")
    digest = hashlib.sha256((tmp_path / "resnet50-00000000.pth").read_bytes()).hexdigest()[:8]
    (tmp_path / "resnet50-00000000.pth").rename(tmp_path / f"resnet50-{digest}.pth")
    monkeypatch.setattr(resnet50, "PUBLISHED", (tmp_path / f"resnet50-{digest}.pth").as_uri())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    encoder = build("resnet50", dim=8, image_shape=SHAPE)
    assert torch.equal(encoder.conv1.weight, published_state()["conv1.weight"])
    assert (tmp_path / "cache" / "hub" / "checkpoints" / f"resnet50-{digest}.pth").is_file()


@pytest.mark.plain
def test_resnet50__says_what_to_do_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(resnet50, "PUBLISHED", (tmp_path / "resnet50-0676ba61.pth").as_uri())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with pytest.raises(BankValueError, match=r"cannot get the weights of resnet50 .* give it as weights"):
        build("resnet50", dim=8, image_shape=SHAPE)


@pytest.mark.plain
def test_resnet50__refuses_grey_images():
    with pytest.raises(BankValueError, match="resnet50 takes colour images with 3 channels, and these have 1"):
        build("resnet50", dim=8, image_shape=(1, 32, 32))
