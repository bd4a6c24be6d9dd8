"""ResNet-18 with a stem for small images."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from torchbank.encoders._channels import check_channels

__all__ = ["SmallResNet18"]

# [He et al. 2016, table 1](arXiv:1512.03385): four stages of two blocks.
STAGE_WIDTHS = (64, 128, 256, 512)
BLOCKS_PER_STAGE = 2


class SmallResNet18(nn.Module):
    """ResNet-18 whose stem keeps the size of the image, as the ResNets for CIFAR do.

    [He et al. 2016](arXiv:1512.03385). The 7 x 7 stem with stride 2 and its pooling are replaced by one 3 x 3
    convolution, so that an image of 32 x 32 leaves the last stage as 4 x 4. 11.2 million parameters.

    Args:
        dim: Dimension of the embedding.
        channels: Channels of the images.

    Raises:
        BankValueError: `forward` is given images with another number of channels.

    Example:
        >>> encoder = SmallResNet18(64, channels=3)
        >>> encoder(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 64])
    """

    def __init__(self, dim: int, *, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.stem = _convolve(channels, STAGE_WIDTHS[0], stride=1)
        stages: list[nn.Module] = []
        width = STAGE_WIDTHS[0]
        for stage_width in STAGE_WIDTHS:
            for position in range(BLOCKS_PER_STAGE):
                stride = 2 if position == 0 and stage_width > STAGE_WIDTHS[0] else 1
                stages.append(ResidualBlock(width, stage_width, stride=stride))
                width = stage_width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width, dim)

    def forward(self, images: Float[Tensor, " *image"]) -> Float[Tensor, "batch dim"]:
        """Embed images; the embeddings are not normalised."""
        check_channels(images, self.channels, "resnet18-small")
        features = relu(self.stem(images.clone(memory_format=torch.channels_last)), inplace=True)
        return self.head(self.stages(features).mean(dim=(2, 3)))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.first = _convolve(inputs, outputs, stride=stride)
        self.second = _convolve(outputs, outputs, stride=1)
        changes = stride != 1 or inputs != outputs
        self.shortcut = _convolve(inputs, outputs, stride=stride, kernel_size=1) if changes else nn.Identity()

    def forward(
        self, features: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs new_height new_width"]:
        """Add the two convolutions to the shortcut."""
        return relu(self.second(relu(self.first(features), inplace=True)) + self.shortcut(features), inplace=True)


def _convolve(inputs: int, outputs: int, *, stride: int, kernel_size: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))
