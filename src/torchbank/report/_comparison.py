"""Several runs side by side: the same setting without and with memory, over seeds and batch sizes."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torchbank.errors import BankValueError

Summary = dict[str, Any]

# What a comparison is about, in the order in which tables show it: name, heading, how to read it off a summary.
MEASURES: dict[str, tuple[str, Callable[[Summary], float]]] = {
    "recall_at_1": ("R@1 (%)", lambda summary: 100 * summary["scores"]["recall_at_1"]),
    "map_at_r": ("MAP@R (%)", lambda summary: 100 * summary["scores"]["map_at_r"]),
    "bank_megabytes": ("bank (MB)", lambda summary: (summary["bank"] or {"bytes": 0})["bytes"] / 1e6),
    "activation_megabytes": ("activations (MB)", lambda summary: summary["memory"]["activation_bytes"] / 1e6),
    "milliseconds_per_step": ("ms/step", lambda summary: summary["timing"]["milliseconds_per_step"]),
    "steps_per_second": ("steps/s", lambda summary: summary["timing"]["steps_per_second"]),
}


@dataclass(frozen=True)
class Run:
    """One finished run of a comparison.

    Args:
        memory: "without" or "with".
        batch_size: Images in a batch.
        seed: Its seed.
        folder: Where it lies.
        summary: The content of its ``summary.json``.
    """

    memory: str
    batch_size: int
    seed: int
    folder: str
    summary: Summary


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of a measure over seeds.

    Args:
        values: One value a seed.

    Example:
        >>> from torchbank.report import Spread
        >>> str(Spread((31.0, 32.0, 33.0)))
        '32.0 ± 1.0'
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """The standard deviation (n - 1); None for one value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        # Three figures are what these measures are good for.
        digits = 1 if abs(self.mean) >= 10 else 2
        if not self.deviation:
            return f"{self.mean:.{digits}f}"
        return f"{self.mean:.{digits}f} ± {self.deviation:.{digits}f}"

    def as_dict(self) -> dict[str, Any]:
        """Mean, deviation and values."""
        return {"mean": self.mean, "deviation": self.deviation, "values": list(self.values)}


class Comparison:
    """Finished runs, grouped by batch size and by memory.

    Args:
        runs: Any number of them, at least one.

    Raises:
        BankValueError: There is none.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs: Sequence[Run] = sorted(runs, key=lambda run: (run.batch_size, run.memory != "without", run.seed))
        if not self.runs:
            msg = "there are no runs to compare; give at least one"
            raise BankValueError(msg)

    @property
    def groups(self) -> list[tuple[int, str]]:
        """The pairs of batch size and memory that ran, in order."""
        return list(dict.fromkeys((run.batch_size, run.memory) for run in self.runs))

    @property
    def batch_sizes(self) -> list[int]:
        """The batch sizes that ran, in order."""
        return list(dict.fromkeys(run.batch_size for run in self.runs))

    @property
    def seeds(self) -> list[int]:
        """The seeds that ran, in order."""
        return sorted({run.seed for run in self.runs})

    def measure(self, batch_size: int, memory: str, name: str) -> Spread:
        """A measure of one group over its seeds.

        Args:
            batch_size: The group's batch size.
            memory: The group's memory, "without" or "with".
            name: A key of `MEASURES`.
        """
        read = MEASURES[name][1]
        group = [run for run in self.runs if (run.batch_size, run.memory) == (batch_size, memory)]
        return Spread(tuple(read(run.summary) for run in group))

    def gain(self, batch_size: int, name: str) -> Spread | None:
        """What memory adds to a measure, seed by seed; None where a side is missing.

        Args:
            batch_size: The batch size of both sides.
            name: A key of `MEASURES`.
        """
        read = MEASURES[name][1]
        by_side: dict[str, dict[int, float]] = {"without": {}, "with": {}}
        for run in self.runs:
            if run.batch_size == batch_size:
                by_side[run.memory][run.seed] = read(run.summary)
        shared = sorted(by_side["without"].keys() & by_side["with"].keys())
        if not shared:
            return None
        return Spread(tuple(by_side["with"][seed] - by_side["without"][seed] for seed in shared))

    def table(self, measures: Sequence[str] = tuple(MEASURES)) -> tuple[list[str], list[list[str]]]:
        """Headings and rows of text, one row a group.

        Args:
            measures: The columns, keys of `MEASURES`.

        Returns:
            The headings, and the cells of each row.
        """
        headings = ["batch", "memory", *(MEASURES[name][0] for name in measures)]
        rows = [
            [str(size), memory, *(str(self.measure(size, memory, name)) for name in measures)]
            for size, memory in self.groups
        ]
        return headings, rows

    def as_dict(self) -> dict[str, Any]:
        """The whole comparison as JSON: groups, gains, and every run with its summary."""
        return {
            "seeds": self.seeds,
            "groups": [
                {"batch_size": size, "memory": memory}
                | {name: self.measure(size, memory, name).as_dict() for name in MEASURES}
                for size, memory in self.groups
            ],
            "gain": [
                {"batch_size": size} | {name: gain.as_dict() for name in MEASURES if (gain := self.gain(size, name))}
                for size in self.batch_sizes
            ],
            "runs": [vars(run) for run in self.runs],
        }
