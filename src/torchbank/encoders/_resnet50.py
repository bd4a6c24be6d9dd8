"""ResNet-50 for photographs, as metric learning uses it: maximum pooling and a linear layer at the end."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from torchbank.encoders._blank_image import first_line
from torchbank.encoders._normalized_images import NormalizedImages
from torchbank.errors import BankValueError

__all__ = ["ResNet50", "build_resnet50"]

# [He et al. 2016, table 1](arXiv:1512.03385): blocks of each stage, and the width of their 3 x 3 convolutions.
STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
EXPANSION = 4
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The weights that torchvision calls ResNet50_Weights.IMAGENET1K_V1; the name ends in the head of their sha256.
PUBLISHED = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
CLASSIFIER = ("fc.weight", "fc.bias")


class ResNet50(nn.Module):
    """ResNet-50 with global maximum pooling and a linear layer to the embedding.

    [He et al. 2016](arXiv:1512.03385), with the stride in the 3 x 3 convolutions, as torchvision has it. Parameters are
    called as there, so that published weights fit; the linear layer is `head` here. Images are normalised by the mean
    and standard deviation of ImageNet. 23.8 million parameters at a dim of 128.

    Args:
        dim: Dimension of the embedding.

    Raises:
        BankValueError: `forward` is given images that are not of three channels.

    Example:
        >>> encoder = ResNet50(128)
        >>> encoder(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 128])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.normalize = NormalizedImages(IMAGENET_MEAN, IMAGENET_STD, channels=3)
        self.conv1 = nn.Conv2d(3, STAGES[0][1], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STAGES[0][1])
        inputs = STAGES[0][1]
        for number, (blocks, width) in enumerate(STAGES, start=1):
            stride = 1 if number == 1 else 2
            stage = [Bottleneck(inputs, width, stride=stride)]
            inputs = EXPANSION * width
            stage += [Bottleneck(inputs, width, stride=1) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*stage))
        self.head = nn.Linear(inputs, dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, " *image"]) -> Float[Tensor, "batch dim"]:
        """Embed images; the embeddings are not normalised."""
        features = self.normalize(images).to(memory_format=torch.channels_last)
        features = max_pool2d(relu(self.bn1(self.conv1(features)), inplace=True), 3, stride=2, padding=1)
        for number in range(1, len(STAGES) + 1):
            features = self.get_submodule(f"layer{number}")(features)
        return self.head(features.amax(dim=(2, 3)))

    def complete(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A state dict of this network: of a published one, with the head that is here in place of its classifier."""
        if not set(CLASSIFIER) <= state.keys():
            return state
        trunk = {name: tensor for name, tensor in state.items() if name not in CLASSIFIER}
        return {**trunk, "head.weight": self.head.weight.detach(), "head.bias": self.head.bias.detach()}


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(
        self, features: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs new_height new_width"]:
        """Add the three convolutions to the shortcut."""
        inner = relu(self.bn1(self.conv1(features)), inplace=True)
        inner = relu(self.bn2(self.conv2(inner)), inplace=True)
        return relu(self.bn3(self.conv3(inner)) + self.downsample(features), inplace=True)


def build_resnet50(*, dim: int, channels: int, published: bool) -> ResNet50:
    """Build a `ResNet50`.

    Args:
        dim: Dimension of the embedding.
        channels: Channels of the images, which must be three.
        published: Whether to fetch weights trained on ImageNet, once; torchvision is not needed for them.

    Raises:
        BankValueError: The images are not of three channels, or the weights cannot be had.
    """
    if channels != 3:
        msg = (
            f"resnet50 takes colour images with 3 channels, and these have {channels}; choose convnet or timm:resnet50"
        )
        raise BankValueError(msg)
    encoder = ResNet50(dim)
    if published:
        try:
            state = torch.hub.load_state_dict_from_url(
                PUBLISHED, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        except (OSError, RuntimeError) as error:
            msg = (
                f"cannot get the weights of resnet50 from {PUBLISHED}: {first_line(error)}. Check the network, or get "
                "the file elsewhere and give it as weights (--weights resnet50-0676ba61.pth)"
            )
            raise BankValueError(msg) from error
        encoder.load_state_dict(encoder.complete(state))
    return encoder
