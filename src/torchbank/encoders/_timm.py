"""Encoders from timm, an optional package."""

from torch import nn

from torchbank.encoders._blank_image import first_line
from torchbank.encoders._normalized_images import NormalizedImages
from torchbank.errors import BankKeyError, BankValueError

__all__ = ["build_timm"]


def build_timm(model: str, *, dim: int, image_shape: tuple[int, int, int], published: bool) -> nn.Module:
    """Build a model of timm whose classifier is a linear layer to `dim`.

    Args:
        model: A name of `timm.list_models()`, with or without a tag of pretrained weights.
        dim: Dimension of the embedding.
        image_shape: `(c, h, w)`; timm adapts the first layer to the channels.
        published: Whether to fetch the published weights.

    Raises:
        BankKeyError: timm has no such model.
        BankValueError: timm is not installed, or its weights cannot be had.
    """
    try:
        import timm  # pyrefly: ignore[missing-import]
    except (ImportError, RuntimeError) as error:
        # RuntimeError: a torchvision that does not fit this torch.
        msg = (
            f"timm:{model} needs the package timm, which cannot be imported ({error}); install it with its "
            "torchvision (pip install timm), or choose another encoder"
        )
        raise BankValueError(msg) from error
    if not timm.is_model(model):
        similar = timm.list_models(f"*{model.split('.')[0]}*")[:5]
        msg = f"timm has no model {model!r}; expected one of timm.list_models()"
        msg += f", such as {', '.join(similar)}" if similar else ""
        raise BankKeyError(msg)
    channels = image_shape[0]
    try:
        network = timm.create_model(model, pretrained=published, num_classes=dim, in_chans=channels)
    except (OSError, RuntimeError, ValueError) as error:
        msg = f"cannot get timm:{model}: {first_line(error)}. Check the network, or give the weights as a file"
        raise BankValueError(msg) from error
    scale = timm.data.resolve_model_data_config(network)
    return nn.Sequential(NormalizedImages(scale["mean"], scale["std"], channels=channels), network)
