"""Fidelity as it was measured lately, for each bucket of age."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchbank.banks import Bank
from torchbank.drift._age_statistics import BUCKETS

# What a measurement leaves of those before it.
_KEPT = 0.8
# A bucket that was not measured for some fifteen measurements says nothing of now.
_FORGOTTEN = 0.04


class RecentFidelity(nn.Module):
    """A mean over measurements in which each counts 0.8 of the one after it.

    Args:
        device: Where it lies.
    """

    weights: Tensor
    sums: Tensor
    ages: Tensor

    def __init__(self, device: torch.device | str | None = None) -> None:
        super().__init__()
        for name in ("weights", "sums", "ages"):
            self.register_buffer(name, torch.zeros(BUCKETS, dtype=torch.float64, device=device))

    def fade(self) -> None:
        """Begin another measurement."""
        self.weights *= _KEPT
        self.sums *= _KEPT

    def add(self, bucket: int, age: Float[Tensor, ""], fidelity: Float[Tensor, ""]) -> None:
        """Add what was measured for a bucket, and at which age."""
        self.weights[bucket] += 1
        self.sums[bucket] += fidelity
        self.ages[bucket] = age

    def average(self, bank: Bank) -> None:
        """Go on from the mean of what all ranks that share a bank have here."""
        own = torch.stack([self.weights, self.sums, self.weights * self.ages])
        everyone = bank.of_all_ranks(own.flatten()).unflatten(1, own.shape)
        weights, sums, weighted = everyone.mean(dim=0)
        self.weights.copy_(weights)
        self.sums.copy_(sums)
        self.ages.copy_(torch.where(weights > 0, weighted / weights, self.ages))

    def by_age(self) -> tuple[Float[Tensor, " ages"], Float[Tensor, " ages"]]:
        """The latest ages, youngest first, and the mean fidelity of each, on the CPU; empty if there is none."""
        weights, sums, ages = self.weights.cpu(), self.sums.cpu(), self.ages.cpu()
        known = weights > _FORGOTTEN
        return ages[known], sums[known] / weights[known]
