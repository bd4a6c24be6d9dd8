"""Gradients compared lately, for each bucket of age."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchbank.drift._age_statistics import BUCKETS
from torchbank.drift._fidelity import GradientPair

# What a measurement leaves of those before it.
_KEPT = 0.8
# A bucket that was not measured for some fifteen measurements says nothing of now.
_FORGOTTEN = 0.04


class RecentGradients(nn.Module):
    """Sums of inner products of gradients, in which each measurement counts 0.8 of the one after it.

    Args:
        device: Where they are summed.
    """

    sums: Tensor

    def __init__(self, device: torch.device | str | None = None) -> None:
        super().__init__()
        # Of each bucket the weight of its measurements, and with that weight age and inner products.
        self.register_buffer("sums", torch.zeros(BUCKETS, 5, dtype=torch.float64, device=device))

    def fade(self) -> None:
        """Begin another measurement."""
        self.sums *= _KEPT

    def add(self, bucket: int, age: Float[Tensor, ""], pair: GradientPair) -> None:
        """Add what was measured for a bucket."""
        self.sums[bucket] += torch.stack([torch.ones_like(age), age, *pair])

    def by_age(self) -> tuple[Float[Tensor, " ages"], GradientPair]:
        """Ages, youngest first, and their gradients, on the CPU; empty if nothing was measured lately."""
        sums = self.sums.cpu()
        weight, age, *products = sums[sums[:, 0] > _FORGOTTEN].unbind(dim=1)
        return age / weight, GradientPair(*(product / weight for product in products))
