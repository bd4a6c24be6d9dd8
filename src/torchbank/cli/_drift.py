"""`torchbank drift RUN`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import tyro

from torchbank.cli._arguments import parse
from torchbank.cli._drift_run import DriftReport, Table, drift_of_run
from torchbank.cli._tables import print_paths, print_rows
from torchbank.drift import recommended_capacity

_DESCRIPTION = """Tell how stale the memory of a finished run was, what that cost, and how large it may be.

Drift is the squared distance between an image's embedding and its older one (0 the same, 2 unrelated); fidelity is the
cosine between the gradient from stored rows and that from the same rows encoded now (1: staleness costs nothing).
Rows that the memory still holds are encoded again by the trained encoder. The tables go to drift.json in the folder.

examples:
  torchbank drift runs/kanji
  torchbank drift runs/kanji --budget 0.3 --rows 0"""


@dataclass(frozen=True)
class _Arguments:
    """Which run.

    Args:
        run: The run folder.
        budget: The drift that a row may have, in squared distance.
        rows: Rows of the memory that are encoded again; 0 needs no images.
    """

    run: tyro.conf.Positional[str]
    budget: float = 0.5
    rows: int = 4_096


def run(words: Sequence[str]) -> None:
    """Parse and tell."""
    arguments = parse(_Arguments, words, prog="torchbank drift", description=_DESCRIPTION)
    found = drift_of_run(arguments.run, rows=arguments.rows)
    headings = ("age (steps)", "drift", "90th percentile", "images", "fidelity", "10th percentile", "measured")
    print_rows("while training, images that were seen again", headings, _lines(found.drift, found.fidelity))
    if found.final_drift is not None:
        headings = (*headings[:3], "rows", *headings[4:])
        lines = _lines(found.final_drift, found.final_fidelity)
        print_rows("at the end, rows of the memory encoded again", headings, lines)
    for sentence in _sentences(found, arguments.budget):
        print(sentence)
    print_paths("pictures", found.pictures)


def _lines(drift: Table, fidelity: Table | None) -> Iterator[tuple[str, ...]]:
    """One for each age, youngest first, with the fidelity that was measured about there."""
    measured = [] if fidelity is None else _rows(fidelity)
    for age, mean, _, p90, count in _rows(drift):
        beside = min(measured, key=lambda row: abs(row[0] - age), default=None)
        cells = ("-", "-", "-")
        # Buckets of age are half an octave wide.
        if beside is not None and abs(beside[0] - age) <= 0.2 * age:
            cells = (f"{beside[1]:.2f}", f"{beside[3]:.2f}", f"{beside[4]:,}")
        yield (f"{age:,.0f}", f"{mean:.3f}", f"{p90:.3f}", f"{count:,}", *cells)


def _rows(table: Table) -> list[tuple[float, ...]]:
    return list(zip(*table.values(), strict=True))


def _sentences(found: DriftReport, budget: float) -> Iterator[str]:
    if found.oldest is not None:
        yield f"The oldest row of the memory is {found.oldest:,} steps old."
    ages, drift = (torch.tensor(found.drift[name]) for name in ("age", "mean"))
    capacity = recommended_capacity(ages, drift, budget=budget, batch_size=found.batch_size)
    if capacity is None:
        yield f"No age that was seen drifts by more than {budget:g} in the mean."
    else:
        yield f"{capacity:,} rows at batch size {found.batch_size} stay within a mean drift of {budget:g}."
