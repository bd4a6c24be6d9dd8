"""Streaming statistics of a number by age: means and quantiles in memory that does not grow.

Axes: batch (observations), ages (buckets of age, half an octave each), bins (of the observed number).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

# A bucket of age begins at 0, 1, 2, 3, 4, 6, 8, 12, 16, ...: two an octave, up to 2^20 steps.
_AGES = sorted({math.ceil(2 ** (half / 2)) for half in range(41)})
BUCKETS = len(_AGES) + 1
# Bins, four an octave from 2^-24 to 2^16: a quantile is right to a few per cent.
_BINS_PER_OCTAVE, _LOWEST, _HIGHEST = 4, -24, 16
_BINS = (_HIGHEST - _LOWEST) * _BINS_PER_OCTAVE
# Numbers are summed as whole multiples of this: in any order, on any device, to the same bits.
_UNIT = 2.0**-24


class DriftByAge(NamedTuple):
    """Drift by age, youngest first; only ages that were observed.

    Attributes:
        age: ``(ages,)``, the mean age in steps of the observations in this bucket.
        mean: ``(ages,)``, their mean squared distance; on the unit sphere 2 - 2 cos.
        median: ``(ages,)``, their median squared distance, to a few per cent.
        p90: ``(ages,)``, their 90 % quantile, to a few per cent.
        count: ``(ages,)`` int64, how many they are.
    """

    age: Float[Tensor, " ages"]
    mean: Float[Tensor, " ages"]
    median: Float[Tensor, " ages"]
    p90: Float[Tensor, " ages"]
    count: Int64[Tensor, " ages"]


class AgeStatistics(nn.Module):
    """Counts observations of a number, from 0 to 65,536 (larger ones count as that), by age.

    All state is in ``state_dict()``, a few kilobytes. Nothing waits for the device until `by_age` is called.

    Args:
        device: Where they are counted.
    """

    histogram: Tensor
    sums: Tensor
    ages: Tensor
    edges: Tensor

    def __init__(self, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.register_buffer("histogram", torch.zeros(BUCKETS, _BINS, dtype=torch.int64, device=device))
        self.register_buffer("sums", torch.zeros(BUCKETS, dtype=torch.int64, device=device))
        self.register_buffer("ages", torch.zeros(BUCKETS, dtype=torch.int64, device=device))
        self.register_buffer("edges", torch.tensor(_AGES, device=device), persistent=False)

    @torch.no_grad()
    def add(self, values: Float[Tensor, " batch"], ages: Int64[Tensor, " batch"], seen: Bool[Tensor, " batch"]) -> None:
        """Count observations.

        Args:
            values: ``(batch,)``, 0 or more.
            ages: ``(batch,)``, in steps; below 0 counts as 0.
            seen: ``(batch,)``, False for what is not to be counted.
        """
        values, ages = values.clamp(0, 2.0**_HIGHEST), ages.clamp_min(0)
        bucket, counted = self.bucket(ages), seen.to(torch.int64)
        self.histogram.view(-1).index_add_(0, bucket * _BINS + _bin_of(values), counted)
        self.sums.index_add_(0, bucket, (values / _UNIT).round().to(torch.int64) * counted)
        self.ages.index_add_(0, bucket, ages * counted)

    def bucket(self, ages: Int64[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
        """Which bucket an age falls into."""
        return torch.bucketize(ages, self.edges, right=True)

    @torch.no_grad()
    def by_age(self) -> DriftByAge:
        """What was counted so far, on the CPU.

        Returns:
            `DriftByAge`, empty if nothing was.
        """
        histogram = self.histogram.cpu()
        observed = histogram.sum(dim=1) > 0
        histogram = histogram[observed]
        count = histogram.sum(dim=1)
        return DriftByAge(
            age=self.ages.cpu()[observed] / count,
            mean=self.sums.cpu()[observed] * _UNIT / count,
            median=_quantile(histogram, 0.5),
            p90=_quantile(histogram, 0.9),
            count=count,
        )

    @torch.no_grad()
    def reset(self) -> None:
        """Forget everything."""
        for statistic in (self.histogram, self.sums, self.ages):
            statistic.zero_()


def _bin_of(values: Float[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
    octave = values.clamp_min(2.0**_LOWEST).log2()
    return ((octave - _LOWEST) * _BINS_PER_OCTAVE).floor().to(torch.int64).clamp_max(_BINS - 1)


def _quantile(histogram: Int64[Tensor, "ages bins"], share: float) -> Float[Tensor, " ages"]:
    """Where ``share`` of each row's counts lie below, interpolated within its bin on the log scale."""
    cumulative = histogram.cumsum(dim=1)
    wanted = share * cumulative[:, -1:]
    place = torch.searchsorted(cumulative.double(), wanted.double())
    inside = histogram.gather(1, place)
    fraction = 1 - (cumulative.gather(1, place) - wanted) / inside
    return (2.0 ** ((place + fraction) / _BINS_PER_OCTAVE + _LOWEST)).squeeze(1).float()
