"""Augmentations on batches."""

import pytest
import torch

from torchbank import data
from torchbank.errors import BankKeyError, BankValueError

SHAPES = [(1, 32, 32), (3, 24, 40), (2, 9, 9)]


def batch_of(shape, n=16):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["glyph", "none", "photo"])
def test_augmentation__keeps_shape_range_and_dtype(name, shape):
    images = batch_of(shape)
    kept = images.clone()
    changed = data.augmentation(name, shape)(images)
    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    assert 0 <= changed.min() <= changed.max() <= 1
    assert torch.equal(images, kept)
    assert not changed.requires_grad


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["glyph", "photo"])
def test_augmentation__changes_each_image_in_its_own_way(name, shape):
    torch.manual_seed(0)
    same = batch_of(shape, 1).expand(16, *shape)
    changed = data.augmentation(name, shape)(same)
    assert len(changed.flatten(1).unique(dim=0)) > 8


@pytest.mark.parametrize("name", ["glyph", "photo"])
def test_augmentation__follows_the_global_seed_and_keeps_no_state(name):
    images = batch_of((1, 32, 32))
    first, second = data.augmentation(name, (1, 32, 32)), data.augmentation(name, (1, 32, 32))
    second(images)
    torch.manual_seed(1)
    expected = first(images)
    torch.manual_seed(1)
    assert torch.equal(second(images), expected)
    assert not torch.equal(second(images), expected)
    assert not list(second.parameters())


@pytest.mark.parametrize("name", ["glyph", "none", "photo"])
def test_augmentation__leaves_test_images_alone(name):
    images = batch_of((1, 32, 32))
    assert torch.equal(data.augmentation(name, (1, 32, 32)).eval()(images), images)


@pytest.mark.parametrize("name", ["glyph", "none", "photo"])
def test_augmentation__takes_an_empty_batch(name):
    assert data.augmentation(name, (1, 32, 32))(torch.rand(0, 1, 32, 32)).shape == (0, 1, 32, 32)


def test_glyph__what_moves_in_is_as_white_as_the_paper():
    torch.manual_seed(0)
    paper = torch.ones(200, 1, 32, 32)
    changed = data.augmentation("glyph", (1, 32, 32))(paper)
    # Contrast and brightness act on the whole image, so each stays of one grey.
    spread = changed.flatten(1).max(dim=1).values - changed.flatten(1).min(dim=1).values
    assert spread.max() < 1e-5
    assert changed.min() > 0.6


def test_glyph__moves_little_and_never_flips():
    torch.manual_seed(0)
    corner = torch.ones(200, 1, 32, 32)
    corner[:, :, 4:12, 4:12] = 0
    ink = 1 - data.augmentation("glyph", (1, 32, 32))(corner)
    ink = (ink - ink.amin(dim=(2, 3), keepdim=True)).flatten(1)
    where = torch.stack(torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")).flatten(1)
    centres = (ink @ where.T) / ink.sum(dim=1, keepdim=True)
    assert (centres - 7.5).abs().max() < 6
    assert (centres - 7.5).std(dim=0).min() > 0.5


def test_photo__crops_and_flips():
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 32).expand(400, 3, 32, 32)
    changed = data.augmentation("photo", (3, 32, 32))(ramp)
    rising = (changed[:, 0, 0, -1] > changed[:, 0, 0, 0]).float().mean()
    assert 0.4 < rising < 0.6
    # At scale 0.2 to 1 and ratio 3/4 to 4/3 the mean width is about 0.77 of the image.
    width = (changed[:, 0, 0, -1] - changed[:, 0, 0, 0]).abs()
    assert 0.7 < width.mean() < 0.85
    assert width.min() > 0.35


@pytest.mark.plain
def test_augmentation__unknown_name_lists_the_choices():
    with pytest.raises(BankKeyError) as caught:
        data.augmentation("mixup", (1, 32, 32))
    assert str(caught.value).startswith(
        "unknown augmentation 'mixup'; expected one of 'glyph', 'none', 'photo', 'npid'"
    )


@pytest.mark.plain
def test_augmentation__refuses_fewer_than_no_local_crops():
    with pytest.raises(BankValueError, match="local_crops is -1"):
        data.augmentation("massl", (3, 32, 32), local_crops=-1)
