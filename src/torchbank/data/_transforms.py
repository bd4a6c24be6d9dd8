"""Random changes of one image that augmentations are made of, by kornia."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["ResizedCrop", "glyph_transform", "photo_transform"]

ImageShape = tuple[int, int, int]

# Colours fade to grey in a fifth of the images, and blur is this strong, in every paper here that has them.
GREYSCALE_CHANCE = 0.2
BLUR_SIGMA = (0.1, 2.0)


class ResizedCrop(nn.Module):
    """A crop of a random share of the area, scaled to a size.

    kornia cuts the crops out one by one or warps all of them at once. The first is several times faster on a CPU,
    the second takes a few kernel launches on a GPU where the first takes some for each image.
    """

    def __init__(self, size: tuple[int, int], scale: tuple[float, float]) -> None:
        super().__init__()
        import kornia.augmentation as kornia

        self.one_by_one = kornia.RandomResizedCrop(size, scale=scale, p=1.0)
        self.at_once = kornia.RandomResizedCrop(size, scale=scale, p=1.0, cropping_mode="resample")

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Tensor:
        """Crop and scale."""
        return (self.at_once if images.is_cuda else self.one_by_one)(images)


def photo_transform(
    image_shape: ImageShape,
    *,
    size: tuple[int, int] | None = None,
    scale: tuple[float, float],
    jitter: tuple[float, float, float, float] | None = None,
    jitter_chance: float = 0.8,
    blur_chance: float = 0.0,
    solarize_chance: float = 0.0,
) -> nn.Module:
    """Crop, flip, colour jitter, greyscale, blur and solarize, in this order.

    Images that are not of three channels have no colour: of jitter they get brightness and contrast, and greyscale
    does not apply.

    Args:
        image_shape: `(c, h, w)` of the images.
        size: `(h, w)` of the views; that of the images by default.
        scale: Smallest and largest share of the area that a crop takes.
        jitter: Strengths of brightness, contrast, saturation and hue; None changes no colour.
        jitter_chance: Share of the images that are jittered.
        blur_chance: Share of the images that are blurred.
        solarize_chance: Share of the images whose brighter half is inverted.
    """
    import kornia.augmentation as kornia

    channels, height, width = image_shape
    coloured = channels == 3
    parts: list[nn.Module] = [ResizedCrop(size or (height, width), scale), kornia.RandomHorizontalFlip(p=0.5)]
    if jitter:
        brightness, contrast, saturation, hue = jitter if coloured else (*jitter[:2], 0.0, 0.0)
        parts.append(kornia.ColorJitter(brightness, contrast, saturation, hue, p=jitter_chance))
    if jitter and coloured:
        parts.append(kornia.RandomGrayscale(p=GREYSCALE_CHANCE))
    if blur_chance:
        # A tenth of the image, as in [Chen et al. 2020, appendix A](arXiv:2002.05709), and odd.
        side = max(3, int(0.1 * min(size or (height, width))) | 1)
        # One pass over a small kernel is faster than two over its sides.
        parts.append(kornia.RandomGaussianBlur((side, side), BLUR_SIGMA, p=blur_chance, separable=side > 5))
    if solarize_chance:
        parts.append(kornia.RandomSolarize(thresholds=0.0, additions=0.0, p=solarize_chance))
    return nn.Sequential(*parts)


def glyph_transform(
    image_shape: ImageShape,
    *,
    degrees: float = 10.0,
    shift: float = 0.06,
    scale: tuple[float, float] = (0.85, 1.1),
    shear: float = 8.0,
) -> nn.Module:
    """Rotation, scale, shift and shear on white paper, then contrast and brightness; never a flip.

    Args:
        image_shape: `(c, h, w)` of the images.
        degrees: Largest rotation.
        shift: Largest shift, as a share of the image.
        scale: Smallest and largest scale.
        shear: Largest shear, in degrees.
    """
    import kornia.augmentation as kornia

    return nn.Sequential(
        # One warp for all four motions: a quarter of the time of four, and the strokes are blurred once.
        kornia.RandomAffine(
            degrees=degrees,
            translate=(shift, shift),
            scale=scale,
            shear=(-shear, shear),
            padding_mode="fill",
            fill_value=torch.ones(image_shape[0]),
            p=1.0,
        ),
        kornia.RandomContrast((0.8, 1.2), p=1.0),
        kornia.RandomBrightness((0.9, 1.1), p=1.0),
    )
