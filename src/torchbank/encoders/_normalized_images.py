"""The scale that a published network was trained with."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchbank.encoders._channels import check_channels

__all__ = ["NormalizedImages"]


class NormalizedImages(nn.Module):
    """Subtracts a mean and divides by a standard deviation, per channel.

    Args:
        mean: One value a channel. For grey images, give one or the three of colour, which are averaged.
        std: As many.
        channels: Channels of the images.

    Raises:
        BankValueError: `forward` is given images with another number of channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, channels: int) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            values = torch.tensor(values, dtype=torch.float32)
            if len(values) != channels:
                values = values.mean().expand(channels).clone()
            # Part of the model's name, not of what it learns: kept out of saved weights.
            self.register_buffer(name, values.view(-1, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, " *image"]) -> Float[Tensor, "batch channels height width"]:
        """Scale images."""
        # A grey image would silently become a colour one by broadcasting.
        check_channels(images, len(self.mean), "the encoder")
        return (images - self.mean) / self.std
