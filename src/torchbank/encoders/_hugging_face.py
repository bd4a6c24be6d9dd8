"""Encoders from the Hugging Face hub, through the optional package transformers."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchbank.encoders._channels import check_channels, describe_channels
from torchbank.encoders._evaluation_mode import evaluation_mode
from torchbank.encoders._normalized_images import NormalizedImages
from torchbank.errors import BankValueError

__all__ = ["build_hugging_face"]

# What the vision models of the hub were trained with where they do not say so: [-1, 1].
DEFAULT_MEAN = DEFAULT_STD = (0.5, 0.5, 0.5)


def build_hugging_face(model: str, *, dim: int, image_shape: tuple[int, int, int], published: bool) -> nn.Module:
    """Build a vision model with a linear layer to `dim` behind it.

    Args:
        model: A name on the hub, or a folder.
        dim: Dimension of the embedding.
        image_shape: `(c, h, w)`.
        published: Whether to fetch the published weights; the description is fetched in any case.

    Raises:
        BankValueError: transformers is not installed, the model cannot be had, or its channels are not those of
            the images.
    """
    try:
        from transformers import AutoConfig, AutoModel  # pyrefly: ignore[missing-import]
    except ImportError as error:
        msg = (
            f"hf:{model} needs the package transformers, which cannot be imported ({error}); install it "
            "(pip install transformers), or choose another encoder"
        )
        raise BankValueError(msg) from error
    try:
        config = AutoConfig.from_pretrained(model)
        network = AutoModel.from_pretrained(model) if published else AutoModel.from_config(config)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        msg = f"cannot get hf:{model}: {reason}. Check the name and the network, or give a folder"
        raise BankValueError(msg) from error
    channels = _channels_of(config)
    if channels != image_shape[0]:
        msg = (
            f"hf:{model} takes images with {describe_channels(channels)}, the data set has "
            f"{describe_channels(image_shape[0])}: convert the images or choose another encoder"
        )
        raise BankValueError(msg)
    return HuggingFaceEncoder(network, NormalizedImages(*_scale_of(model), channels=channels), dim, image_shape)


class HuggingFaceEncoder(nn.Module):
    """Pooled features of a vision model (of CLIP-like models, the image features), then a linear layer."""

    def __init__(self, network: Any, normalize: nn.Module, dim: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.channels = image_shape[0]
        self.network = network
        self.normalize = normalize
        with evaluation_mode(network), torch.no_grad():
            features = self._features(torch.zeros(1, *image_shape)).shape[1]
        self.head = nn.Linear(features, dim)

    def forward(self, images: Float[Tensor, " *image"]) -> Float[Tensor, "batch dim"]:
        """Embed images; the embeddings are not normalised."""
        check_channels(images, self.channels, "the Hugging Face model")
        return self.head(self._features(self.normalize(images)))

    def _features(self, images: Tensor) -> Tensor:
        if hasattr(self.network, "get_image_features"):
            output = self.network.get_image_features(pixel_values=images)
            output = output if isinstance(output, Tensor) else output.pooler_output
        else:
            found = self.network(pixel_values=images)
            output = getattr(found, "pooler_output", None)
            if output is None:
                output = found.last_hidden_state.mean(dim=1)
        return output.flatten(1)


def _channels_of(config: Any) -> int:
    return getattr(getattr(config, "vision_config", config), "num_channels", 3)


def _scale_of(model: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    from transformers.image_processing_utils import ImageProcessingMixin  # pyrefly: ignore[missing-import]

    try:
        settings, _ = ImageProcessingMixin.get_image_processor_dict(model)
    except OSError:
        return DEFAULT_MEAN, DEFAULT_STD
    return tuple(settings.get("image_mean") or DEFAULT_MEAN), tuple(settings.get("image_std") or DEFAULT_STD)
