"""What the verbs print on stdout."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from torchbank.cli._evaluate_run import Evaluation
from torchbank.report import MEASURES, Comparison


def print_rows(
    title: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    justify: Literal["left", "right"] = "right",
) -> None:
    """A table.

    Args:
        title: Above it.
        headings: Of the columns.
        rows: Texts.
        justify: Of every column but the first: numbers right, words left.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else justify, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def print_summary(summary: dict[str, Any]) -> None:
    """The result of one run."""
    scores, bank, timing = summary["scores"], summary["bank"], summary["timing"]
    title, columns = _scores_of(scores, classes=summary["data"]["test"]["classes"])
    columns |= {
        "bank bytes": f"{bank['bytes'] if bank else 0:,}",
        "ms/step": f"{timing['milliseconds_per_step']:.1f}",
        "steps/s": f"{timing['steps_per_second']:.1f}",
    }
    print_rows(title, tuple(columns), [tuple(columns.values())])


def _scores_of(scores: dict[str, Any], *, classes: int) -> tuple[str, dict[str, str]]:
    """What was scored, and the scores under their headings; which there are depends on the data."""
    if "knn_accuracy" in scores:
        heading = f"k-NN (k {scores['knn_k']}, T {scores['knn_temperature']:g})"
        return f"test images of {classes:,} classes", {heading: f"{scores['knn_accuracy']:.1%}"}
    if "pairs" in scores:
        names = {"forward_recall_at_1": "R@1", "backward_recall_at_1": "R@1 back"}
        title = f"{scores['pairs']:,} pairs that were never seen"
    else:
        recall = "recall_at_"
        names = {name: f"R@{name.removeprefix(recall)}" for name in scores if name.startswith(recall)}
        names["map_at_r"] = "MAP@R"
        title = f"{classes:,} classes that were never seen"
    return title, {heading: f"{scores[name]:.1%}" for name, heading in names.items()}


def print_evaluation(result: Evaluation) -> None:
    """Every score of an evaluation, with what it depends on."""
    rows = [
        (
            score.protocol,
            score.measure,
            f"{score.train_rows:,}" if score.train_rows else "-",
            f"{score.test_rows:,}",
            f"{score.value:.1%}",
        )
        for score in result.scores
    ]
    headings = ("protocol", "measure", "labelled", "scored", "score")
    print_rows(f"{result.method} trained on {result.trained_on}, features of dim {result.dim}", headings, rows)
    for note in result.notes:
        print(f"{note}.")


def print_comparison(comparison: Comparison, measures: Sequence[str] = tuple(MEASURES)) -> None:
    """One row a group, and what memory adds.

    Args:
        comparison: Finished runs.
        measures: The columns, keys of `torchbank.report.MEASURES`.
    """
    headings, rows = comparison.table(measures)
    seeds = len(comparison.seeds)
    print_rows(f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "one seed", headings, rows)
    for size in comparison.batch_sizes:
        gain = {name: comparison.gain(size, name) for name in ("recall_at_1", "map_at_r")}
        if gain["map_at_r"] is not None:
            print(f"batch {size}: memory adds {gain['recall_at_1']} points of R@1, {gain['map_at_r']} of MAP@R")


def print_paths(title: str, paths: Iterable[Path]) -> None:
    """A list of files, one a line, never folded."""
    print(f"{title}:")
    for path in paths:
        print(f"  {path}")
