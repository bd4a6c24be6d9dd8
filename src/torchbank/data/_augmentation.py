"""Random changes of training batches, by kornia, on the device that holds the batch."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchbank.errors import BankKeyError

__all__ = ["augmentation"]


def augmentation(name: str, image_shape: tuple[int, int, int]) -> nn.Module:
    """Build a module that changes each image of a training batch at random.

    - `"none"` changes nothing.
    - `"glyph"` is for dark marks on white paper: a little rotation, scale, shift and shear, contrast and brightness.
      What moves in from outside is white. No flip, which would make another character.
    - `"photo"` takes a crop of 20 to 100 % of the area, scales it back to the full size and flips half of the
      images, as in [Wang et al. 2020, section 4.1](arXiv:1912.06798).

    The random numbers come from PyTorch's global generator. The module learns nothing and passes no gradient.

    Args:
        name: One of the names above.
        image_shape: `(c, h, w)` of the images.

    Returns:
        A module from images `(b, c, h, w)` in [0, 1] to images of the same shape and range. It changes them in
        training mode only; after `.eval()` they pass through.

    Raises:
        BankKeyError: No augmentation has this name.

    Example:
        >>> augment = augmentation("glyph", (1, 32, 32))
        >>> augment(torch.ones(2, 1, 32, 32)).shape
        torch.Size([2, 1, 32, 32])
    """
    if name not in _BUILDERS:
        msg = f"unknown augmentation {name!r}; expected one of {', '.join(map(repr, sorted(_BUILDERS)))}"
        raise BankKeyError(msg)
    return _RandomChange(_BUILDERS[name](image_shape))


class _RandomChange(nn.Module):
    """Applies a transform in training mode, without gradient."""

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    @torch.no_grad()
    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        # kornia draws for at least one image.
        if not self.training or not len(images):
            return images
        return self.transform(images)


def _none(image_shape: tuple[int, int, int]) -> nn.Module:  # noqa: ARG001
    return nn.Identity()


def _glyph(image_shape: tuple[int, int, int]) -> nn.Module:
    import kornia.augmentation as kornia

    white = torch.ones(image_shape[0])
    return nn.Sequential(
        # One warp for all four motions: a quarter of the time of four, and the strokes are blurred once.
        kornia.RandomAffine(
            degrees=10.0,
            translate=(0.06, 0.06),
            scale=(0.85, 1.1),
            shear=(-8.0, 8.0),
            padding_mode="fill",
            fill_value=white,
            p=1.0,
        ),
        kornia.RandomContrast((0.8, 1.2), p=1.0),
        kornia.RandomBrightness((0.9, 1.1), p=1.0),
    )


def _photo(image_shape: tuple[int, int, int]) -> nn.Module:
    import kornia.augmentation as kornia

    return nn.Sequential(
        kornia.RandomResizedCrop(image_shape[1:], scale=(0.2, 1.0), p=1.0),
        kornia.RandomHorizontalFlip(p=0.5),
    )


_BUILDERS: dict[str, Callable[[tuple[int, int, int]], nn.Module]] = {
    "glyph": _glyph,
    "none": _none,
    "photo": _photo,
}
