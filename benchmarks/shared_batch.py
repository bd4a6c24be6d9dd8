"""Does one batch, cut over two processes, learn what one process learns from it? `python -m benchmarks.shared_batch`.

XBM on kanji as `torchbank demo` trains it, 16 images an update in all: by one process; by one that accumulates two
batches of 8; and by two that torchrun starts, with 8 images each and one memory, whose batches are their own or count
as one. Writes results/shared-batch.json and a table of docs/many-ranks.md. Every process has one thread.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

from .documents import ROOT
from .jobs import Job, Record
from .study import options, run_study

NAME = "shared-batch"
PAGE = ROOT / "docs" / "many-ranks.md"
# Batches that are accumulated for an update, and processes.
WAYS = {
    "one process": (1, 1),
    "one process, two halves accumulated": (2, 1),
    "two processes, half each, replicated": (1, 2),
    "two processes, half each, sharded": (1, 2),
    "two processes, half each, replicated, one batch": (1, 2),
}
IMAGES_PER_CLASS = 2
SCORES = {"recall_at_1": "R@1", "map_at_r": "MAP@R"}


def work(settings: Record) -> Record:
    """Train once, by the command line; the scores on the test classes."""
    accumulated, processes = WAYS[settings["way"]]
    classes = settings["batch"] // (IMAGES_PER_CLASS * accumulated * processes)
    launcher = ["-m"]
    if processes > 1:
        launcher = [*["-m", "torch.distributed.run", "--standalone", "-m", "--nproc-per-node"], str(processes), "--"]
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", "xbm", "--run", f"{folder}/run", "--device", "cpu", "--checkpoint-every", "0"]
        words += ["--evaluate-every", "0", "--classes-per-batch", str(classes), "--accumulate", str(accumulated)]
        words += ["--bank-mode", "sharded" if settings["way"].endswith("sharded") else "replicated"]
        words += ["--batch-mode", "shared" if settings["way"].endswith("one batch") else "own"]
        words += ["--steps", str(settings["steps"]), "--seed", str(settings["seed"])]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, *launcher, "torchbank", *words], check=True, env=env)
        summary = json.loads(Path(folder, "run", "summary.json").read_text())
    facts = {"images an update": summary["batch_size"], "processes": summary["machine"]["processes"]}
    return facts | {name: summary["scores"][name] for name in SCORES}


def table(runs: list[Record]) -> str:
    """Means and standard deviations over seeds, and the difference to one process, seed by seed."""
    scores = " | ".join(SCORES.values())
    lines = [f"| {runs[0]['batch']} images an update | {scores} | R@1 beside one process |", "|---|--:|--:|--:|"]
    ways = dict.fromkeys(run["way"] for run in runs)
    by_way = {way: {run["seed"]: run for run in runs if run["way"] == way} for way in ways}
    first = next(iter(by_way.values()))
    for way, seeds in by_way.items():
        cells = [_spread([100 * run[name] for run in seeds.values()]) for name in SCORES]
        apart = [100 * (run["recall_at_1"] - first[seed]["recall_at_1"]) for seed, run in seeds.items()]
        lines.append(f"| {way} | {' | '.join(cells)} | {'' if seeds is first else _spread(apart, sign='+')} |")
    seeds, steps = sorted({run["seed"] for run in runs}), runs[0]["steps"]
    many = f"mean and standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]} alone"
    return "\n".join(lines) + f"\n\nPercent, {steps:,} steps, {many}."


def _spread(values: list[float], sign: str = "") -> str:
    deviation = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):{sign}.1f}{deviation}"


def main() -> None:
    """Run what has no result yet; write the results and the table."""
    parser = options(NAME, __doc__, steps=2_000, batch=16, seeds=range(3))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    chosen = parser.parse_args()
    shared = {"steps": chosen.steps, "batch": chosen.batch}
    settings = [{"way": way, "seed": seed, **shared} for seed in chosen.seeds for way in chosen.ways]
    jobs = [Job(f"{entry['way'].replace(' ', '-').replace(',', '')}-seed{entry['seed']}", entry) for entry in settings]
    run_study(NAME, jobs, chosen, table, page=PAGE)


if __name__ == "__main__":
    main()
