"""One value a query becomes the loss."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from torchbank.reads import PairSum

Reduction = Literal["mean", "sum", "none"]


def reduced(values: Float[Tensor, " batch"], reduction: Reduction) -> Tensor:
    """The mean, the sum or the values themselves.

    Args:
        values: ``(batch,)``, 0 for queries that had nothing to compare with.
        reduction: ``"mean"`` divides by the batch, those zeros included; of an empty batch it is 0.

    Returns:
        0-d, or ``(batch,)`` for ``"none"``.
    """
    if reduction == "none":
        return values
    total = values.sum()
    return total / max(values.shape[0], 1) if reduction == "mean" else total


def share_of_mean(pairs: PairSum) -> Float[Tensor, " batch"]:
    """What each query adds to the mean over the active pairs, or triplets, of all queries; 0 where there are none."""
    count = pairs.count.sum()
    return pairs.value / count.masked_fill(count == 0, 1.0)
