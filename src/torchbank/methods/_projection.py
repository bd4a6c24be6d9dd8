"""An encoder with the head that the loss sees through; evaluation takes the features before it."""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchbank.errors import BankValueError

Normalized = Literal["none", "hidden", "all"]


class ProjectedEncoder(nn.Module):
    """Views of a batch to projections: the encoder once for each size of view, the head once for all.

    Args:
        encoder: A view ``(b, ...)`` to features ``(b, dim)``.
        head: Features to projections ``(b, projection_dim)``.
        dim: What the head expects.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.dim = dim

    def forward(self, views: Sequence[Tensor]) -> Float[Tensor, "views batch projection"]:
        """Project each view.

        Raises:
            BankValueError: The encoder does not give ``(b, dim)``.
        """
        sizes = (list(group) for _, group in groupby(views, key=lambda view: view.shape[1:]))
        features = [self._features(torch.cat(group) if len(group) > 1 else group[0]) for group in sizes]
        projected = self.head(torch.cat(features) if len(features) > 1 else features[0])
        return projected.unflatten(0, (len(views), len(views[0])))

    def _features(self, inputs: Tensor) -> Float[Tensor, "inputs dim"]:
        features = self.encoder(inputs)
        if features.shape != (len(inputs), self.dim):
            msg = (
                f"the encoder gives {tuple(features.shape)} for a batch of {len(inputs)}; expected "
                f"({len(inputs)}, {self.dim}), so pool its output to one vector an instance or set dim"
            )
            raise BankValueError(msg)
        return features


def mlp(*sizes: int, activation: type[nn.Module] = nn.ReLU, normalized: Normalized = "none") -> nn.Sequential:
    """Linear layers from ``sizes[0]`` to ``sizes[-1]`` with an activation between them.

    Args:
        *sizes: Two or more.
        activation: What stands between two layers.
        normalized: Whether batch norm follows the hidden layers, or all of them.
    """
    layers: list[nn.Module] = []
    for place, (inputs, outputs) in enumerate(pairwise(sizes), start=2):
        last = place == len(sizes)
        norm = normalized == "all" or (normalized == "hidden" and not last)
        # Batch norm would take a bias away again.
        layers += [nn.Linear(inputs, outputs, bias=not norm)]
        layers += [nn.BatchNorm1d(outputs)] if norm else []
        layers += [] if last else [activation()]
    return nn.Sequential(*layers)
