"""`torchbank demo`: what a memory buys, on kanji, in a few minutes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torchbank.cli._arguments import parse
from torchbank.cli._compare_runs import Plan, compare_runs
from torchbank.cli._config import RunConfig
from torchbank.cli._progress import progress_bar
from torchbank.cli._tables import print_comparison, print_paths
from torchbank.errors import BankValueError
from torchbank.training import process_count, told_by_first

_DESCRIPTION = """Train a small network on kanji without and with memory, and show what the memory buys."""


@dataclass(frozen=True)
class _Arguments:
    """What is trained, and where the pictures go.

    All settings are the defaults of ``torchbank train xbm``; several processes (torchrun) share its batch.

    Args:
        runs: The folder in which a new folder demo, demo-2, ... is made.
        seeds: Seeds; each side runs once with each.
        steps: Steps of each run, to try it out; by default those of the demo.
    """

    runs: Path = Path("runs")
    seeds: tuple[int, ...] = (0,)
    steps: int | None = None


def run(words: Sequence[str]) -> None:
    """Parse, train both sides, show the table and the pictures."""
    arguments = parse(_Arguments, words, prog="torchbank demo", description=_DESCRIPTION)
    config = RunConfig.default("xbm").with_settings(() if arguments.steps is None else (f"steps={arguments.steps}",))
    config = _shared_out(config, process_count())
    path = told_by_first(lambda: _free_folder(arguments.runs, "demo"), config.training)
    plan = Plan(config, arguments.seeds)
    comparison, picture = compare_runs(plan, str(path), progress_bar=progress_bar)
    print_comparison(comparison, ("recall_at_1", "map_at_r", "bank_megabytes", "steps_per_second"))
    print_paths("pictures", [picture, *sorted(path.glob("*-with-*/plots/*.png"))])


def _shared_out(config: RunConfig, processes: int) -> RunConfig:
    """The part of each process in one batch.

    Raises:
        BankValueError: It cannot be cut into so many.
    """
    classes = config.training.classes_per_batch
    if classes % processes:
        msg = (
            f"{processes} processes cannot share the {classes} classes of a batch of the demo; start 1, 2, 4 or 8, "
            "or use torchbank compare"
        )
        raise BankValueError(msg)
    shared = () if processes == 1 else ("batch-mode=shared",)
    return config.with_settings(shared).with_batch_size(config.training.batch_size // processes)


def _free_folder(parent: Path, name: str) -> Path:
    """``parent/name``, or the first of ``name-2``, ``name-3``, ... that does not exist."""
    path, number = parent / name, 1
    while path.exists():
        number += 1
        path = parent / f"{name}-{number}"
    return path
