"""Drift read from revisits: how far an image's embedding has moved since the image was last seen.

Axes: batch (observations), ages (buckets of age, half an octave each), bins (of squared distance).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from torchbank.banks import KeyedMemoryBank

# A bucket of age begins at 0, 1, 2, 3, 4, 6, 8, 12, 16, ...: two an octave, up to 2^20 steps.
_AGES = sorted({math.ceil(2 ** (half / 2)) for half in range(41)})
# Bins of squared distance, four an octave from 2^-24 to 2^16: a quantile is right to a few per cent.
_BINS_PER_OCTAVE, _LOWEST, _HIGHEST = 4, -24, 16
_BINS = (_HIGHEST - _LOWEST) * _BINS_PER_OCTAVE
# Distances are summed as whole multiples of this: in any order, on any device, to the same bits.
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


class RevisitDrift(nn.Module):
    """Reads drift from the training batches themselves, at no forward pass of its own.

    Drift at age a is ``mean_x ||f(x; now) - f(x; now - a)||^2`` ([Wang et al. 2020, sec. 3.2](arXiv:1912.06798)).
    A keyed record holds each instance's last embedding; when the instance comes up again, the distance between
    its new and its last embedding is one observation at a known age. What varies between two views of an
    instance, such as random augmentation, is part of the distance: it is what the youngest ages show, and a
    stored row carries it as well.

    All state is in ``state_dict()``. Nothing waits for the device until `by_age` is called.

    Args:
        capacity: Instances; their ids lie in [0, capacity).
        dim: Embedding dim.
        metric: ``"cosine"`` compares on the unit sphere, ``"dot"`` embeddings as they are (squared distances
            above 65,536 count as that).
        dtype: Of the record. 16 bits add about 1e-5 (bfloat16) or 1e-7 (float16) to distances of unit vectors.
        device: Where the record lies.

    Example:
        >>> import torch
        >>> from torchbank.drift import RevisitDrift
        >>> drift = RevisitDrift(capacity=100, dim=2)
        >>> ids = torch.tensor([3])
        >>> drift.observe(torch.tensor([[1.0, 0.0]]), ids, step=10)
        >>> drift.observe(torch.tensor([[0.0, 1.0]]), ids, step=14)  # 90 degrees in 4 steps
        >>> by_age = drift.by_age()
        >>> by_age.age.tolist(), by_age.mean.tolist(), by_age.count.tolist()
        ([4.0], [2.0], [1])
    """

    histogram: Tensor
    distances: Tensor
    ages: Tensor
    edges: Tensor

    def __init__(
        self,
        capacity: int,
        dim: int,
        *,
        metric: str = "cosine",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.record = KeyedMemoryBank(capacity, dim, metric=metric, dtype=dtype, device=device, duplicates="last")
        buckets = len(_AGES) + 1
        self.register_buffer("histogram", torch.zeros(buckets, _BINS, dtype=torch.int64, device=device))
        self.register_buffer("distances", torch.zeros(buckets, dtype=torch.int64, device=device))
        self.register_buffer("ages", torch.zeros(buckets, dtype=torch.int64, device=device))
        self.register_buffer("edges", torch.tensor(_AGES, device=device), persistent=False)

    @torch.no_grad()
    def observe(self, embeddings: Float[Tensor, "batch dim"], ids: Int64[Tensor, " batch"], step: int | Tensor) -> None:
        """Compare embeddings with the last ones of the same ids, then record them.

        Args:
            embeddings: ``(batch, dim)`` floating.
            ids: ``(batch,)`` int64 in [0, capacity). Of an id given twice, both are compared with what was
                recorded before, and the last is recorded.
            step: The training step.

        Raises:
            BankValueError: Shapes do not fit, an id is out of range, or a row cannot be stored.
        """
        # The push below says what is wrong with an id that is too large; here it only finds nothing.
        last = self.record.gather(ids.masked_fill(ids >= self.record.capacity, -1))
        self.record.push(embeddings, keys=ids, step=step)
        now = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        if self.record.metric == "cosine":
            now = nn.functional.normalize(now, dim=1)
        distances = (now - last.embeddings).square().sum(dim=1).clamp(0, 2.0**_HIGHEST)
        ages = (step - last.steps).clamp_min(0)
        bucket = torch.bucketize(ages, self.edges, right=True)
        seen = last.valid.to(torch.int64)
        self.histogram.view(-1).index_add_(0, bucket * _BINS + _bin_of(distances), seen)
        self.distances.index_add_(0, bucket, (distances / _UNIT).round().to(torch.int64) * seen)
        self.ages.index_add_(0, bucket, ages * seen)

    @torch.no_grad()
    def by_age(self) -> DriftByAge:
        """What was observed so far, on the CPU.

        Returns:
            `DriftByAge`, empty if nothing was observed.
        """
        histogram = self.histogram.cpu()
        observed = histogram.sum(dim=1) > 0
        histogram = histogram[observed]
        count = histogram.sum(dim=1)
        return DriftByAge(
            age=self.ages.cpu()[observed] / count,
            mean=self.distances.cpu()[observed] * _UNIT / count,
            median=_quantile(histogram, 0.5),
            p90=_quantile(histogram, 0.9),
            count=count,
        )

    @torch.no_grad()
    def reset(self) -> None:
        """Forget the statistics but keep each instance's last embedding."""
        for statistic in (self.histogram, self.distances, self.ages):
            statistic.zero_()


def _bin_of(distances: Float[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
    octave = distances.clamp_min(2.0**_LOWEST).log2()
    return ((octave - _LOWEST) * _BINS_PER_OCTAVE).floor().to(torch.int64).clamp_max(_BINS - 1)


def _quantile(histogram: Int64[Tensor, "ages bins"], share: float) -> Float[Tensor, " ages"]:
    """Where ``share`` of each row's counts lie below, interpolated within its bin on the log scale."""
    cumulative = histogram.cumsum(dim=1)
    wanted = share * cumulative[:, -1:]
    place = torch.searchsorted(cumulative.double(), wanted.double())
    inside = histogram.gather(1, place)
    fraction = 1 - (cumulative.gather(1, place) - wanted) / inside
    return (2.0 ** ((place + fraction) / _BINS_PER_OCTAVE + _LOWEST)).squeeze(1).float()
