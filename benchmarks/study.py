"""A study: jobs over seeds, one results file, one table in a page, all of one name."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from .documents import PAGE, ROOT, write_results, write_table
from .jobs import Job, Record, run_jobs


def options(name: str, words: str | None, *, steps: int, batch: int, seeds: Iterable[int]) -> argparse.ArgumentParser:
    """What every study can be told; its module adds what is its own."""
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(seeds))
    parser.add_argument("--steps", type=int, default=steps, help="of each run; %(default)s by default")
    parser.add_argument("--batch", type=int, default=batch, help="%(default)s by default")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time, which share the cores")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / name, help="where the result of each run is kept")
    parser.add_argument("--out", type=Path, default=_results(name), help="by default also the page's table is written")
    return parser


def run_study(
    name: str,
    jobs: Iterable[Job],
    chosen: argparse.Namespace,
    table: Callable[[list[Record]], str],
    *,
    page: Path = PAGE,
) -> None:
    """Run what has no result yet; write the results file and the table.

    `benchmarks.NAME` with underscores is the module that does the work.
    """
    runs = run_jobs(f"benchmarks.{name.replace('-', '_')}", jobs, chosen.runs, processes=chosen.processes)
    write_results(chosen.out, runs)
    print(table(runs))
    if chosen.out == _results(name):
        write_table(name, chosen.out, table(runs), page=page)


def _results(name: str) -> Path:
    return ROOT / "benchmarks" / "results" / f"{name}.json"
