"""Encoders from the Hugging Face hub, through the optional package transformers."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from torchbank.encoders._blank_image import embed_blank, first_line
from torchbank.encoders._channels import describe_channels
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
        msg = f"cannot get hf:{model}: {first_line(error)}. Check the name and the network, or give a folder"
        raise BankValueError(msg) from error
    channels = _channels_of(config)
    if channels != image_shape[0]:
        msg = (
            f"hf:{model} takes images with {describe_channels(channels)}, the data set has "
            f"{describe_channels(image_shape[0])}: convert the images or choose another encoder"
        )
        raise BankValueError(msg)
    pooled = PooledFeatures(network)
    features = embed_blank(pooled, f"hf:{model}", image_shape)
    normalize = NormalizedImages(*_scale_of(model), channels=channels)
    return nn.Sequential(normalize, pooled, nn.Linear(features.shape[1], dim))


class PooledFeatures(nn.Module):
    """One vector an image: what a vision model pools, or the mean of its tokens; of CLIP, the image features."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features"]:
        """Embed images that are scaled as the network expects."""
        if hasattr(self.network, "get_image_features"):
            features = self.network.get_image_features(pixel_values=images)
            return features if isinstance(features, Tensor) else features.pooler_output
        output = self.network(pixel_values=images)
        if getattr(output, "pooler_output", None) is not None:
            # Convolutional networks keep height and width of 1.
            return output.pooler_output.flatten(1)
        return output.last_hidden_state.mean(dim=1)


def _channels_of(config: Any) -> int:
    return getattr(getattr(config, "vision_config", config), "num_channels", 3)


def _scale_of(model: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    from transformers.image_processing_utils import ImageProcessingMixin  # pyrefly: ignore[missing-import]

    try:
        settings, _ = ImageProcessingMixin.get_image_processor_dict(model)
    except OSError:
        return DEFAULT_MEAN, DEFAULT_STD
    return tuple(settings.get("image_mean") or DEFAULT_MEAN), tuple(settings.get("image_std") or DEFAULT_STD)
