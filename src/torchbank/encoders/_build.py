"""Encoders by name."""

from pathlib import Path

from torch import Tensor, nn

from torchbank.encoders._blank_image import embed_blank
from torchbank.encoders._convnet import ConvNet
from torchbank.encoders._hugging_face import build_hugging_face
from torchbank.encoders._ngrams import NGramEncoder
from torchbank.encoders._resnet import SmallResNet18
from torchbank.encoders._resnet50 import build_resnet50
from torchbank.encoders._timm import build_timm
from torchbank.encoders._user_code import call_function, load_torchscript
from torchbank.encoders._weights import load_weights
from torchbank.errors import BankKeyError, BankValueError

__all__ = ["build"]

ImageShape = tuple[int, int, int]

CHOICES = "convnet, resnet18-small, resnet50, ngrams, timm:NAME, hf:NAME, torchscript:FILE, module:function"


def build(name: str, *, dim: int, image_shape: ImageShape | None, weights: str | Path | None = None) -> nn.Module:
    """Build an encoder: images `(b, c, h, w)` in [0, 1], or texts, to embeddings `(b, dim)`, not normalised.

    | name | encoder | without `weights` |
    |---|---|---|
    | `convnet` | `ConvNet`: four blocks, for small images | random |
    | `resnet18-small` | `SmallResNet18`: the stem of CIFAR ResNets, for small images | random |
    | `resnet50` | `ResNet50`: for photographs, with global maximum pooling | of ImageNet, linear layer random |
    | `ngrams` | `NGramEncoder`: for texts, int64 tokens `(b, length)` | random |
    | `timm:NAME` | any model of timm, such as `timm:resnet50.a1_in1k` | published, linear layer random |
    | `hf:NAME` | a vision model of the Hugging Face hub, or of a folder | published, linear layer random |
    | `torchscript:FILE` | a saved TorchScript module, used as it is | in the file |
    | `module:function` | what your function returns for `function(dim=dim, image_shape=image_shape)` | your choice |

    timm and transformers are optional packages, imported only for their names. Their models get the mean and
    standard deviation that they were trained with applied to the images. `module` is also looked for in
    the working folder.

    Args:
        name: One of the names above.
        dim: Dimension of the embedding.
        image_shape: `(c, h, w)` of the images; None for texts.
        weights: A file with the whole state dict of this encoder: `.safetensors`, or `.pt` or `.pth` with tensors
            only. Nothing is downloaded then but the description of an `hf:` model. For `resnet50` also a file of
            torchvision's, such as `resnet50-0676ba61.pth`, whose classifier is left out.

    Raises:
        BankKeyError: No encoder has this name.
        BankValueError: A package is missing, the encoder does not take such images (grey or colour), or texts, or
            gives another dimension, or the weights do not fit.
        BankTypeError: The user's function returns no module.
        FileFormatError: A file is truncated or foreign.

    Example:
        >>> encoder = build("convnet", dim=128, image_shape=(1, 32, 32))
        >>> sum(parameter.numel() for parameter in encoder.parameters())
        421216
    """
    _check_sizes(dim, image_shape)
    encoder = _construct(name, dim, image_shape, published=weights is None)
    if weights is not None:
        load_weights(encoder, weights)
    _check_output(encoder, name, dim=dim, image_shape=image_shape)
    return encoder


def _construct(name: str, dim: int, image_shape: ImageShape | None, *, published: bool) -> nn.Module:
    match name.partition(":"):
        case ("ngrams", "", ""):
            return NGramEncoder(dim)
        case ("torchscript", ":", file):
            return load_torchscript(file)
        case ("convnet" | "resnet18-small" | "resnet50", "", "") | ("timm" | "hf", ":", _):
            if image_shape is None:
                msg = f"{name} takes images, and these are texts; expected ngrams, torchscript:FILE or module:function"
                raise BankValueError(msg)
            return _construct_for_images(name, dim, image_shape, published=published)
        case (module, ":", function) if module and function:
            return call_function(module, function, dim=dim, image_shape=image_shape)
    msg = f"unknown encoder {name!r}; expected one of {CHOICES}"
    raise BankKeyError(msg)


def _construct_for_images(name: str, dim: int, image_shape: ImageShape, *, published: bool) -> nn.Module:
    kind, _, model = name.partition(":")
    if kind == "convnet":
        return ConvNet(dim, channels=image_shape[0])
    if kind == "resnet18-small":
        return SmallResNet18(dim, channels=image_shape[0])
    if kind == "resnet50":
        return build_resnet50(dim=dim, channels=image_shape[0], published=published)
    build_published = build_timm if kind == "timm" else build_hugging_face
    return build_published(model, dim=dim, image_shape=image_shape, published=published)


def _check_sizes(dim: int, image_shape: ImageShape | None) -> None:
    if dim < 1 or (image_shape is not None and (len(image_shape) != 3 or min(image_shape) < 1)):
        msg = (
            f"dim is {dim} and image_shape {image_shape}; expected a dim of 1 or more and "
            "(channels, height, width) of 1 or more each"
        )
        raise BankValueError(msg)


def _check_output(encoder: nn.Module, name: str, *, dim: int, image_shape: ImageShape | None) -> None:
    embedding = embed_blank(encoder, name, image_shape)
    if not isinstance(embedding, Tensor) or embedding.shape != (1, dim):
        given = tuple(embedding.shape) if isinstance(embedding, Tensor) else type(embedding).__name__
        what = "text" if image_shape is None else "image"
        msg = (
            f"{name} gives {given} for one {what}; expected (1, {dim}): set dim to what it gives, or add a linear layer"
        )
        raise BankValueError(msg)
