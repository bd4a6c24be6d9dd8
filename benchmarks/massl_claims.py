"""What MaSSL says about its memory, tried small: how many blocks, drawn anew or fixed, and of what.

python -m benchmarks.massl_claims    # about 12 minutes on 2 cores; goes on if stopped

Five seeds a variant. A run has collapsed where its embeddings keep less than a tenth of the spread of uniform ones.
"""

import argparse
from pathlib import Path

from torchbank.report import Spread

from .documents import ROOT, write_results, write_table
from .jobs import Job, Record, run_jobs
from .self_supervised import METHODS, QUEUE, features, load, probes, train

RESULTS = ROOT / "benchmarks" / "results" / "massl-claims.json"
DATA, BATCH, STEPS, SEEDS = "kanji", 128, 500, (0, 1, 2, 3, 4)
COLLAPSED = 0.1

VARIANTS: dict[str, Record] = {
    "one block": {"block_size": QUEUE["capacity"]},
    "4 blocks, fixed": {"partition": "fixed"},
    "4 blocks, random": {},
    "4 blocks, random, of a memory of random vectors": {"memory": "random"},
}


def work(settings: Record) -> Record:
    """Train one variant and score its encoder: a job of `benchmarks.jobs`."""
    split = load(settings["data"], tiny=settings["tiny"])
    encoder, logs, _ = train(split, settings)
    spread = logs["train/embedding_std"]
    scores = probes(DATA, *features(encoder, split)) if spread >= COLLAPSED else {"knn": None, "linear": None}
    return {**scores, "spread": spread, "logs": logs}


def jobs(chosen: argparse.Namespace) -> list[Job]:
    """One a variant and seed."""
    shared = {"data": DATA, "method": "massl", "steps": chosen.steps, "batch": chosen.batch, "tiny": chosen.tiny}
    return [
        Job(
            f"variant{number}-seed{seed}",
            {**shared, "who": who, "seed": seed, "config": {**METHODS["massl"].config, **change, "seed": seed}},
        )
        for number, (who, change) in enumerate(VARIANTS.items())
        for seed in chosen.seeds
    ]


def markdown(runs: list[Record]) -> str:
    """The mean over the seeds that did not collapse, with the standard deviation."""
    seeds = len({run["seed"] for run in runs})
    out = [
        f"`{runs[0]['data']}`, {runs[0]['steps']:,} steps of {runs[0]['batch']} images, a memory of "
        f"{QUEUE['capacity']:,} rows; mean ± standard deviation of {seeds} seeds, in %, without those that collapsed:",
        "",
        "| memory | k-NN | linear | spread of the embeddings | collapsed |",
        "|---|---|---|---|---|",
    ]
    for who in dict.fromkeys(run["who"] for run in runs):
        mine = [run for run in runs if run["who"] == who]
        alive = [run for run in mine if run["spread"] >= COLLAPSED]
        cells = [
            str(Spread(tuple(100 * run[key] for run in alive))) if alive else "-" for key in ("knn", "linear", "spread")
        ]
        out.append(f"| {who} | {' | '.join(cells)} | {len(mine) - len(alive)} of {len(mine)} |")
    return "\n".join(out)


def main(arguments: list[str] | None = None) -> None:
    """Parse, run what has no result yet, write the file and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--tiny", action="store_true", help="few images")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time, which share the cores")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "massl-claims", help="where results are kept")
    parser.add_argument("--out", type=Path, default=RESULTS, help="by default also the table in docs/ is written")
    chosen = parser.parse_args(arguments)
    load(DATA, tiny=True)  # before minutes are spent
    runs = run_jobs("benchmarks.massl_claims", jobs(chosen), chosen.runs, processes=chosen.processes)
    write_results(chosen.out, runs)
    print(markdown(runs))
    if chosen.out == RESULTS:
        write_table("massl-claims", chosen.out, markdown(runs))


if __name__ == "__main__":
    main()
