"""Several views of each image: how many, how large, and what the papers' settings do to them."""

import pytest
import torch

from torchbank import data

COUNTS = {"npid": 1, "moco-v1": 2, "moco-v2": 2, "moco-cifar": 2, "simclr": 2, "glyph-views": 2}
CROPS = ("massl", "glyph-massl")
SHAPES = [(1, 14, 14), (3, 16, 16), (2, 9, 12)]


def batch_of(shape, n=16):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [*COUNTS, *CROPS])
def test_views__have_their_number_size_and_range(name, shape, n):
    images = batch_of(shape, n)
    kept = images.clone()
    views = data.augmentation(name, shape, local_crops=3)(images)
    local = (shape[0], round(shape[1] * 96 / 224), round(shape[2] * 96 / 224))
    expected = [shape] * COUNTS.get(name, 2) + [local] * (3 if name in CROPS else 0)
    assert [tuple(view.shape) for view in views] == [(n, *size) for size in expected]
    for view in views:
        assert view.dtype == torch.float32
        assert not view.requires_grad
        # Weights of a blur add up to 1 but for rounding.
        assert ((view >= -1e-6) & (view <= 1 + 1e-6)).all()
    assert torch.equal(images, kept)


@pytest.mark.parametrize("name", CROPS)
def test_views__without_local_crops_are_the_global_ones(name):
    assert len(data.augmentation(name, (3, 32, 32), local_crops=0)(batch_of((3, 32, 32)))) == 2


@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("name", [*COUNTS, *CROPS])
def test_views__differ_by_image_and_view_and_follow_the_global_seed(name, shape):
    draw = data.augmentation(name, shape, local_crops=3)
    same = batch_of(shape, 1).expand(12, *shape)

    def seeded():
        torch.manual_seed(5)
        return draw(same)

    first, again = seeded(), seeded()
    assert all(map(torch.equal, first, again))
    of_one_size = [view.flatten(1) for view in first if view.shape[1:] == shape]
    assert len(torch.cat(of_one_size).unique(dim=0)) == 12 * len(of_one_size)
    assert not list(draw.parameters())


@pytest.mark.parametrize("name", ["npid", "moco-v1", "moco-v2", "moco-cifar", "simclr", "massl"])
def test_views__grey_images_vary_in_brightness_and_contrast(name):
    torch.manual_seed(0)
    flat = torch.full((200, 1, 16, 16), 0.4)
    view = data.augmentation(name, (1, 16, 16))(flat)[0]
    # Of an image of one grey, contrast, crop and blur leave that grey, brightness does not.
    assert (view.flatten(1).max(dim=1).values - view.flatten(1).min(dim=1).values).max() < 1e-5
    assert view.std() > 0.03


def test_views__a_fifth_of_the_colour_images_is_grey():
    torch.manual_seed(0)
    coloured = torch.rand(600, 3, 1, 1).expand(600, 3, 12, 12)
    view = data.augmentation("moco-v1", (3, 12, 12))(coloured)[1]
    grey = (view.amax(dim=1) - view.amin(dim=1)).flatten(1).amax(dim=1) < 1e-4
    # Binomial with a standard deviation of 0.016.
    assert abs(grey.float().mean() - 0.2) < 0.05


def test_views__jitter_spares_a_fifth_in_moco_v2_and_none_in_v1():
    torch.manual_seed(0)
    flat = torch.full((600, 1, 12, 12), 0.4)
    for name, spared in (("moco-v1", 0.0), ("moco-v2", 0.2), ("simclr", 0.2)):
        view = data.augmentation(name, (1, 12, 12))(flat)[0]
        kept = ((view - 0.4).abs() < 1e-5).flatten(1).all(dim=1)
        assert abs(kept.float().mean() - spared) < 0.05


@pytest.mark.parametrize("name", ["moco-v2", "simclr", "massl"])
def test_views__photos_are_flipped_and_cropped(name):
    torch.manual_seed(0)
    ramp = torch.linspace(0.2, 0.6, 32).expand(300, 3, 32, 32)
    view = data.augmentation(name, (3, 32, 32), local_crops=1)(ramp)[0].mean(dim=(1, 2))
    rising = (view[:, -1] > view[:, 0]).float().mean()
    assert 0.38 < rising < 0.62


def test_views__massl_sees_more_in_global_than_in_local_crops():
    torch.manual_seed(0)
    # Two ramps: the shares of the width and of the height that a crop takes.
    across = torch.linspace(0.2, 0.6, 56).expand(56, 56)
    images = torch.stack([across, across.T]).expand(200, 2, 56, 56)
    first, second, *local = data.augmentation("massl", (2, 56, 56))(images)
    assert len(local) == 10

    def seen(view):
        width = (view[:, 0, :, -1] - view[:, 0, :, 0]).abs().mean(dim=1)
        height = (view[:, 1, -1] - view[:, 1, 0]).abs().mean(dim=1)
        return (width * height).median() / 0.16

    # Contrast and brightness scale both by the same random factor around 1, blur flattens the ends a little.
    assert 0.45 < seen(first) < 0.75
    assert 0.1 < seen(torch.cat(local)) < 0.25
    # The second global view solarizes a fifth, which inverts what is bright: here, breaks the ramp.
    bright = torch.full((600, 2, 16, 16), 0.9)
    second = data.augmentation("massl", (2, 16, 16), local_crops=0)(bright)[1]
    assert abs((second.flatten(1).mean(dim=1) < 0.5).float().mean() - 0.2) < 0.05


def test_views__glyphs_stay_on_white_paper_and_are_never_flipped():
    torch.manual_seed(0)
    corner = torch.ones(300, 1, 32, 32)
    corner[:, :, 6:14, 6:14] = 0
    for view in data.augmentation("glyph-views", (1, 32, 32))(corner):
        ink = (1 - view).flatten(1)
        ink = ink - ink.amin(dim=1, keepdim=True)
        where = torch.stack(torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")).flatten(1)
        centres = (ink @ where.T) / ink.sum(dim=1, keepdim=True)
        # A flip would take the middle of the mark from 9.5 to 21.5.
        assert centres.max() < 19
        assert centres.std(dim=0).min() > 1
