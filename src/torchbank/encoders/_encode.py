"""Embed a whole data set."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from torchbank.encoders._evaluation_mode import device_of, evaluation_mode
from torchbank.errors import BankValueError

__all__ = ["Encoded", "encode"]


class Encoded(NamedTuple):
    """The embeddings of a data set, on the CPU.

    Attributes:
        embeddings: `(n, d)` float32, as the encoder gives them: not normalised.
        labels: `(n,)` int64.
        ids: `(n,)` int64, the row of each image in its data set.
    """

    embeddings: Float[Tensor, "n dim"]
    labels: Int64[Tensor, " n"]
    ids: Int64[Tensor, " n"]


@runtime_checkable
class LabelledBatch(Protocol):
    """What a loader yields: `torchbank.data.Batch` or anything with its three attributes."""

    @property
    def images(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...

    @property
    def ids(self) -> Tensor: ...


@runtime_checkable
class LabelledViews(Protocol):
    """Or `torchbank.data.ViewBatch`."""

    @property
    def views(self) -> tuple[Tensor, ...]: ...

    @property
    def labels(self) -> Tensor: ...

    @property
    def ids(self) -> Tensor: ...


@torch.no_grad()
def encode(
    encoder: nn.Module,
    loader: Iterable[LabelledBatch | LabelledViews],
    *,
    device: torch.device | str | None = None,
    view: int = 0,
) -> Encoded:
    """Embed every image, or text, that a loader yields, in its order.

    The encoder runs in evaluation mode and without gradient; afterwards every one of its modules is back in the
    mode it was in, also when a batch fails.

    Args:
        encoder: Images `(b, c, h, w)`, or tokens `(b, length)`, to embeddings `(b, d)`.
        loader: Yields batches with `images`, or `views`, and `labels` and `ids`, such as `torchbank.data.loader`.
        device: Where the images are sent; by default where the encoder is.
        view: Which of the views, where the batches have several.

    Raises:
        BankValueError: The loader yields nothing, or the encoder does not give one vector an image.

    Example:
        >>> from torchbank import data, encoders
        >>> images = data.ArrayImages(
        ...     torch.zeros(6, 1, 32, 32, dtype=torch.uint8), torch.arange(6), class_names="abcdef", name="blank"
        ... )
        >>> encoder = encoders.build("convnet", dim=16, image_shape=images.image_shape)
        >>> encode(encoder, data.loader(images, batch_size=4)).embeddings.shape
        torch.Size([6, 16])
    """
    device = device_of(encoder) if device is None else torch.device(device)
    embeddings, labels, ids = [], [], []
    with evaluation_mode(encoder):
        for batch in loader:
            inputs = batch.views[view] if isinstance(batch, LabelledViews) else batch.images
            embedded = encoder(inputs.to(device, non_blocking=True))
            _check_embeddings(embedded, len(batch.labels))
            embeddings.append(embedded.to("cpu", torch.float32))
            labels.append(batch.labels.cpu())
            ids.append(batch.ids.cpu())
    if not embeddings:
        msg = "the loader yields no batch; expected images to embed: check the data set and the loader"
        raise BankValueError(msg)
    return Encoded(torch.cat(embeddings), torch.cat(labels), torch.cat(ids))


def _check_embeddings(embedded: object, images: int) -> None:
    if not isinstance(embedded, Tensor) or embedded.dim() != 2 or len(embedded) != images:
        given = f"shape {tuple(embedded.shape)}" if isinstance(embedded, Tensor) else f"a {type(embedded).__name__}"
        msg = (
            f"the encoder gave {given} for {images} images; expected one vector an image, "
            f"({images}, dim): pool and flatten its output"
        )
        raise BankValueError(msg)
