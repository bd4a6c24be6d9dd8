"""The networks of our own: shapes, channels, layout, size."""

import pytest
import torch

from torchbank.encoders import ConvNet, SmallResNet18, build
from torchbank.errors import BankValueError

NAMES = ["convnet", "resnet18-small"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("image_shape", [(1, 32, 32), (3, 32, 32), (3, 17, 40), (1, 8, 9)])
def test_network__embeds_any_image_shape(name, image_shape):
    encoder = build(name, dim=24, image_shape=image_shape)
    assert encoder(torch.rand(5, *image_shape)).shape == (5, 24)
    assert encoder.training


@pytest.mark.parametrize("name", NAMES)
def test_network__layout_changes_no_result(name):
    # `clone` to channels-last is for speed only.
    torch.manual_seed(0)
    encoder = build(name, dim=8, image_shape=(3, 16, 16)).double()
    images = torch.rand(4, 3, 16, 16, dtype=torch.float64)
    given = [images, images.contiguous(memory_format=torch.channels_last), images.flip(3).flip(3)[:, :]]
    first, *others = [encoder(batch) for batch in given]
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_network__every_parameter_gets_gradient_and_is_contiguous(name):
    encoder = build(name, dim=8, image_shape=(1, 16, 16))
    encoder(torch.rand(4, 1, 16, 16)).square().sum().backward()
    for parameter in encoder.parameters():
        assert parameter.grad.abs().sum() > 0
        assert parameter.is_contiguous()


@pytest.mark.parametrize("name", NAMES)
def test_network__reaches_the_images_with_gradient(name):
    images = torch.rand(2, 1, 16, 16, requires_grad=True)
    build(name, dim=8, image_shape=(1, 16, 16)).eval()(images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_convnet__widths_are_the_channels_of_its_blocks():
    encoder = ConvNet(16, channels=1, widths=(4, 8))
    assert [block[0].out_channels for block in encoder.blocks] == [4, 8]
    assert encoder(torch.rand(2, 1, 9, 9)).shape == (2, 16)


def test_resnet18_small__is_resnet18_with_a_small_stem():
    # torchvision's ResNet-18 without its classifier has 11,176,512 parameters, 9,408 of them in the 7 x 7 stem.
    encoder = SmallResNet18(10, channels=3)
    without_head = sum(parameter.numel() for name, parameter in encoder.named_parameters() if "head" not in name)
    assert without_head == 11_176_512 - 9_408 + 3 * 3 * 3 * 64
    features = []
    encoder.stages.register_forward_hook(lambda *arguments: features.append(arguments[2].shape))
    encoder(torch.rand(2, 3, 32, 32))
    assert features == [(2, 512, 4, 4)]


@pytest.mark.plain
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("built_for", "given", "message"),
    [
        (1, (2, 3, 16, 16), r"images with 3 channels \(colour\); expected .* 1 channel \(grey\)"),
        (3, (2, 1, 16, 16), r"images with 1 channel \(grey\); expected .* 3 channels \(colour\)"),
        (3, (2, 4, 16, 16), "images with 4 channels; expected"),
        (1, (16, 16), r"shape \(16, 16\); expected \(batch, channels, height, width\)"),
    ],
)
def test_network__refuses_other_channels(name, built_for, given, message):
    encoder = build(name, dim=8, image_shape=(built_for, 16, 16))
    with pytest.raises(BankValueError, match=message):
        encoder(torch.rand(given))


@pytest.mark.plain
@pytest.mark.parametrize("name", NAMES)
def test_network__compiles_to_one_graph(name):
    encoder = build(name, dim=8, image_shape=(1, 16, 16)).eval()
    images = torch.rand(2, 1, 16, 16)
    compiled = torch.compile(encoder, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images), encoder(images))
