"""A small convolutional network for small images."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["ConvNet"]


class ConvNet(nn.Module):
    """Blocks of convolution, batch norm, ReLU and pooling, then a global mean and a linear layer.

    Each block halves height and width, but the last, which is averaged.

    Args:
        dim: Dimension of the embedding.
        channels: Channels of the images.
        widths: Channels of each block.

    Example:
        >>> encoder = ConvNet(128, channels=1)
        >>> encoder(torch.rand(2, 1, 32, 32)).shape
        torch.Size([2, 128])
    """

    def __init__(self, dim: int, *, channels: int, widths: Sequence[int] = (32, 64, 128, 256)) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for inputs, outputs in zip((channels, *widths), widths, strict=False):
            blocks += [
                nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        self.blocks = nn.Sequential(*blocks[:-1])
        self.head = nn.Linear(widths[-1], dim)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch dim"]:
        """Embed images; the embeddings are not normalised."""
        return self.head(torch.mean(self.blocks(images), dim=(2, 3)))
