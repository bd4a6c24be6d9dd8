"""Random changes of training batches, by kornia, on the device that holds the batch."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchbank.data._transforms import ImageShape, glyph_transform, photo_transform
from torchbank.data._views import VIEW_NAMES, random_views
from torchbank.errors import BankKeyError, BankValueError

__all__ = ["augmentation"]

_CHANGES: dict[str, Callable[[ImageShape], nn.Module]] = {
    "glyph": glyph_transform,
    "none": lambda _: nn.Identity(),
    "photo": lambda image_shape: photo_transform(image_shape, scale=(0.2, 1.0)),
}


def augmentation(name: str, image_shape: ImageShape, *, local_crops: int = 10) -> nn.Module:
    """Build a module that changes each image of a training batch at random, or draws several views of it.

    One changed image each:

    - `"none"` changes nothing.
    - `"glyph"` is for dark marks on white paper: a little rotation, scale, shift and shear, contrast and brightness.
      What moves in from outside is white. No flip, which would make another character.
    - `"photo"` takes a crop of 20 to 100 % of the area, scales it back to the full size and flips half of the
      images, as in [Wang et al. 2020, section 4.1](arXiv:1912.06798).

    Views, with the settings of the papers:

    | name | views | |
    |---|---|---|
    | `npid` | 1 | [Wu et al. 2018](arXiv:1805.01978): crops from 20 %, flip, colour jitter, grey in a fifth |
    | `moco-v1` | 2 | [He et al. 2020](arXiv:1911.05722): the same twice |
    | `moco-v2` | 2 | [Chen et al. 2020](arXiv:2003.04297): blur, and a jitter that spares a fifth |
    | `moco-cifar` | 2 | MoCo's CIFAR-10 recipe: crops from 8 %, no blur |
    | `simclr` | 2 | [Chen et al. 2020](arXiv:2002.05709): crops from 8 %, twice the jitter |
    | `massl` | 2 + `local_crops` | [Silva et al. 2024](arXiv:2407.17486): global crops from 32 %, local ones from 5 % |
    | `glyph-views` | 2 | `glyph`, moved farther |
    | `glyph-massl` | 2 + `local_crops` | `glyph-views`, and crops of 5 to 32 % of it |

    A blur covers a tenth of the image. Local crops have 96/224 of its height and width. Images that are not of three
    channels have no colour to change: of its jitter they get brightness and contrast.

    The random numbers come from PyTorch's global generator. The module learns nothing and passes no gradient.

    Args:
        name: One of the names above.
        image_shape: `(c, h, w)` of the images.
        local_crops: Local views of the names that have any; 10 is MaSSL's.

    Returns:
        A module from images `(b, c, h, w)` in [0, 1] to images of the same shape and range, which it changes in
        training mode only, after `.eval()` they pass through; or to a tuple of views, global ones first.

    Raises:
        BankKeyError: No augmentation has this name.
        BankValueError: `local_crops` is negative.

    Example:
        >>> augment = augmentation("glyph", (1, 32, 32))
        >>> augment(torch.ones(2, 1, 32, 32)).shape
        torch.Size([2, 1, 32, 32])
        >>> draw = augmentation("massl", (3, 32, 32), local_crops=2)
        >>> [tuple(view.shape) for view in draw(torch.rand(4, 3, 32, 32))]
        [(4, 3, 32, 32), (4, 3, 32, 32), (4, 3, 14, 14), (4, 3, 14, 14)]
    """
    if local_crops < 0:
        msg = f"local_crops is {local_crops}; expected 0 or more"
        raise BankValueError(msg)
    if name in VIEW_NAMES:
        return random_views(name, image_shape, local_crops=local_crops)
    if name not in _CHANGES:
        msg = f"unknown augmentation {name!r}; expected one of {', '.join(map(repr, (*_CHANGES, *VIEW_NAMES)))}"
        raise BankKeyError(msg)
    return _RandomChange(_CHANGES[name](image_shape))


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
