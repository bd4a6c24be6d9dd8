"""Random changes of training batches, by kornia, on the device that holds the batch."""

from collections.abc import Callable

from torch import nn

from torchbank.errors import BankKeyError

__all__ = ["augmentation"]


def augmentation(name: str, image_shape: tuple[int, int, int]) -> nn.Module:
    """Build a module that changes each image of a training batch at random."""
    if name not in _BUILDERS:
        msg = f"unknown augmentation {name!r}; expected one of {', '.join(map(repr, sorted(_BUILDERS)))}"
        raise BankKeyError(msg)
    return _BUILDERS[name](image_shape)


def _none(image_shape: tuple[int, int, int]) -> nn.Module:  # noqa: ARG001
    return nn.Identity()


_BUILDERS: dict[str, Callable[[tuple[int, int, int]], nn.Module]] = {"none": _none}
