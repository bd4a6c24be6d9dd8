"""Several random views of each image, with the settings of the papers that train on them."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchbank.data._transforms import ImageShape, ResizedCrop, glyph_transform, photo_transform

__all__ = ["VIEW_NAMES", "RandomViews", "random_views"]

# How many views, and the settings of their transform. The colours of MoCo v1 are those of NPID, whose loss needs one
# view; MoCo v2 adds SimCLR's blur. "moco-cifar" is what MoCo's authors train on CIFAR-10 with.
_ALIKE: dict[str, tuple[int, dict[str, Any]]] = {
    # [Wu et al. 2018](arXiv:1805.01978).
    "npid": (1, {"scale": (0.2, 1.0), "jitter": (0.4, 0.4, 0.4, 0.4), "jitter_chance": 1.0}),
    # [He et al. 2020, section 3.3](arXiv:1911.05722).
    "moco-v1": (2, {"scale": (0.2, 1.0), "jitter": (0.4, 0.4, 0.4, 0.4), "jitter_chance": 1.0}),
    # [Chen, Fan, Girshick and He 2020](arXiv:2003.04297).
    "moco-v2": (2, {"scale": (0.2, 1.0), "jitter": (0.4, 0.4, 0.4, 0.1), "blur_chance": 0.5}),
    "moco-cifar": (2, {"scale": (0.08, 1.0), "jitter": (0.4, 0.4, 0.4, 0.1)}),
    # [Chen, Kornblith, Norouzi and Hinton 2020, appendix A](arXiv:2002.05709).
    "simclr": (2, {"scale": (0.08, 1.0), "jitter": (0.8, 0.8, 0.8, 0.2), "blur_chance": 0.5}),
}
# [Silva, Pedrini and Ramirez Rivera 2024](arXiv:2407.17486).
_MASSL_JITTER = (0.4, 0.4, 0.2, 0.1)
_GLOBAL_SCALE, _LOCAL_SCALE = (0.32, 1.0), (0.05, 0.32)
# MaSSL's local crops beside its global ones, in pixels: 96 of 224.
_LOCAL_SIDE = 96 / 224
# A glyph is seen in two views that differ more than two drawings by one hand, and less than two characters.
_GLYPH_MOTION: dict[str, Any] = {"degrees": 15.0, "shift": 0.1, "scale": (0.7, 1.2), "shear": 15.0}

VIEW_NAMES = (*_ALIKE, "massl", "glyph-views", "glyph-massl")
"""The augmentations that draw views; the others change each image into one."""


class _ViewGroup(NamedTuple):
    """Views that are drawn alike.

    Attributes:
        transform: Images to changed images.
        count: How many views it draws.
        size: `(h, w)` of them.
    """

    transform: nn.Module
    count: int
    size: tuple[int, int]


class RandomViews(nn.Module):
    """Draws several views of each image, without gradient, those of one group by one pass over all of them.

    Args:
        groups: Views by group, in the order in which they are returned.
    """

    def __init__(self, groups: list[_ViewGroup]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(group.transform for group in groups)
        self.counts = [group.count for group in groups]
        self.sizes = [group.size for group in groups]

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "batch channels height width"]) -> tuple[Tensor, ...]:
        """Draw the views, each `(b, c, h', w')`."""
        views: list[Tensor] = []
        for transform, count, size in zip(self.transforms, self.counts, self.sizes, strict=True):
            # kornia draws for at least one image.
            many = (
                transform(images.repeat(count, 1, 1, 1)) if len(images) else images.new_empty(0, images.shape[1], *size)
            )
            views += many.tensor_split(count)
        return tuple(views)


def random_views(name: str, image_shape: ImageShape, *, local_crops: int) -> RandomViews:
    """The views that one of `VIEW_NAMES` draws.

    Args:
        name: Which.
        image_shape: `(c, h, w)` of the images.
        local_crops: Smaller views beside the global ones, where the name has any.
    """
    _, height, width = image_shape
    size, local = (height, width), (round(height * _LOCAL_SIDE), round(width * _LOCAL_SIDE))
    if name in _ALIKE:
        count, settings = _ALIKE[name]
        return RandomViews([_ViewGroup(photo_transform(image_shape, **settings), count, size)])
    if name.startswith("glyph"):
        groups = [_ViewGroup(glyph_transform(image_shape, **_GLYPH_MOTION), 2, size)]
        cropped = nn.Sequential(glyph_transform(image_shape, **_GLYPH_MOTION), ResizedCrop(local, _LOCAL_SCALE))
    else:
        seen = {"scale": _GLOBAL_SCALE, "jitter": _MASSL_JITTER}
        first = photo_transform(image_shape, **seen, blur_chance=1.0)
        second = photo_transform(image_shape, **seen, blur_chance=0.1, solarize_chance=0.2)
        groups = [_ViewGroup(first, 1, size), _ViewGroup(second, 1, size)]
        seen = {"scale": _LOCAL_SCALE, "jitter": _MASSL_JITTER}
        cropped = photo_transform(image_shape, size=local, **seen, blur_chance=0.5)
    if name.endswith("massl") and local_crops:
        groups.append(_ViewGroup(cropped, local_crops, local))
    return RandomViews(groups)
