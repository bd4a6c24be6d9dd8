"""Embed a whole data set."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

if TYPE_CHECKING:
    from torchbank.data import Batch

__all__ = ["Encoded", "encode"]


class Encoded(NamedTuple):
    """The embeddings of a data set, with the label and id of each row."""

    embeddings: Float[Tensor, "n dim"]
    labels: Int64[Tensor, "n"]
    ids: Int64[Tensor, "n"]


@torch.no_grad()
def encode(encoder: nn.Module, loader: "Iterable[Batch]", *, device: torch.device | str | None = None) -> Encoded:
    """Embed every image of a loader, in evaluation mode and without gradient."""
    if device is None:
        device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    embeddings, labels, ids = [], [], []
    try:
        for batch in loader:
            embeddings.append(encoder(batch.images.to(device)).to("cpu", torch.float32))
            labels.append(batch.labels)
            ids.append(batch.ids)
    finally:
        for module, training in modes.items():
            module.training = training
    return Encoded(torch.cat(embeddings), torch.cat(labels), torch.cat(ids))
