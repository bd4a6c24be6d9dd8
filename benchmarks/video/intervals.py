"""Means over seeds with 95 % intervals (Student's t)."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean and half the width of its interval; the width is NaN for one seed."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """Of one value a seed."""
        from scipy.stats import t

        count = len(values)
        if count < 2:
            return cls(values[0], math.nan)
        reach = float(t.ppf((1 + CONFIDENCE) / 2, count - 1))
        return cls(statistics.fmean(values), reach * statistics.stdev(values) / math.sqrt(count))

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if math.isnan(self.half) else f"{self.mean:.1f} ± {self.half:.1f}"


def percent(values: Sequence[float]) -> Interval:
    """Of shares, in %."""
    return Interval.of([100 * value for value in values])
