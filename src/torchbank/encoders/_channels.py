"""The one check of an encoder's input that users trip over: grey images where colour is expected."""

from torch import Tensor

from torchbank.errors import BankValueError

__all__ = ["check_channels", "describe_channels"]


def describe_channels(channels: int) -> str:
    """Say a number of channels as a user does."""
    return {1: "1 channel (grey)", 3: "3 channels (colour)"}.get(channels, f"{channels} channels")


def check_channels(images: Tensor, channels: int, encoder: str) -> None:
    """Raise unless `images` is a batch with this number of channels.

    Raises:
        BankValueError: It is not; the message says grey or colour.
    """
    if images.dim() != 4 or images.shape[1] != channels:
        given = describe_channels(images.shape[1]) if images.dim() == 4 else f"shape {tuple(images.shape)}"
        msg = (
            f"{encoder} was given images with {given}; expected (batch, channels, height, width) with "
            f"{describe_channels(channels)}: build the encoder with the image_shape of the data set, or convert "
            "the images"
        )
        raise BankValueError(msg)
