"""What staleness costs: the gradient from stored rows beside that from the same rows encoded again.

Axes: batch (queries), rows (rows of a memory).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from torchbank.banks import Rows

RowLoss = Callable[[Tensor, Rows], Tensor]
"""A loss of queries ``(batch, dim)`` over rows with the reads of a bank: ``loss(queries, rows)`` is 0-d."""


class GradientPair(NamedTuple):
    """Inner products of two gradients, 0-d or one of each for several ages; they add up over measurements.

    Attributes:
        product: Of the gradient from stored rows with that from fresh ones.
        stored: Of the former with itself.
        fresh: Of the latter with itself.
    """

    product: Float[Tensor, "*ages"]
    stored: Float[Tensor, "*ages"]
    fresh: Float[Tensor, "*ages"]

    @classmethod
    def of(cls, stored: Float[Tensor, "batch dim"], fresh: Float[Tensor, "batch dim"]) -> "GradientPair":
        """The inner products, in float64."""
        stored, fresh = stored.double(), fresh.double()
        return cls((stored * fresh).sum(), stored.square().sum(), fresh.square().sum())

    def cosine(self) -> Float[Tensor, "*ages"]:
        """The cosine between the two; 1 where both are 0, and 0 where one is."""
        length = (self.stored * self.fresh).sqrt()
        alone = torch.where((self.stored == 0) & (self.fresh == 0), 1.0, 0.0)
        return torch.where(length > 0, self.product / length.clamp_min(torch.finfo(length.dtype).tiny), alone)


def gradient_fidelity(
    loss: RowLoss, queries: Float[Tensor, "batch dim"], stored: Rows, fresh: Rows
) -> Float[Tensor, ""]:
    """The cosine between the gradient that stored rows give and the one that fresh rows would give.

    The gradient is that of the loss in the queries, all of them together: what the encoder is told. 1 says that
    staleness costs nothing, 0 that what it tells is unrelated to the truth, and below 0 it misleads.

    Args:
        loss: What is trained with, over the rows it is given.
        queries: ``(batch, dim)``, compared with the rows.
        stored: The rows as they are remembered.
        fresh: The same rows, encoded again.

    Returns:
        0-d, in [-1, 1]; 1 where neither has a gradient.

    Example:
        >>> import torch
        >>> import torchbank as tb
        >>> from torchbank.drift import gradient_fidelity
        >>> def loss(queries, rows):
        ...     return rows.attend(queries, scale=5.0).lse.mean()
        >>> rows = torch.nn.functional.normalize(torch.randn(100, 8), dim=1)
        >>> stored = tb.Rows(rows, metric="cosine")
        >>> turned = tb.Rows(rows.roll(1, dims=1), metric="cosine")
        >>> queries = torch.randn(4, 8)
        >>> round(gradient_fidelity(loss, queries, stored, stored).item(), 4)
        1.0
        >>> gradient_fidelity(loss, queries, stored, turned).item() < 0.9
        True
    """
    from_stored = gradient_of(lambda leaf: loss(leaf, stored), queries)
    from_fresh = gradient_of(lambda leaf: loss(leaf, fresh), queries)
    return GradientPair.of(from_stored, from_fresh).cosine()


@torch.enable_grad()
def gradient_of(loss: Callable[[Tensor], Tensor], queries: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
    """The gradient of a loss at the queries, of which nothing else learns."""
    leaf = queries.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    return gradient
