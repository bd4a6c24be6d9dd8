"""What MaSSL says about its memory, tried small: how many blocks, drawn anew or fixed, and of what.

python -m benchmarks.massl_claims    # about 12 minutes on 2 cores; goes on if stopped

Five seeds a variant. A run has collapsed where its embeddings keep less than a tenth of the spread of uniform ones.
"""

import argparse

from torchbank.report import Spread

from .jobs import Job, Record
from .self_supervised import METHODS, QUEUE, features, load, probes, train
from .study import options, run_study

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
            {**shared, "who": who, "seed": seed, "config": {**METHODS["massl"].config, **change}},
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
    parser = options("massl-claims", __doc__, steps=STEPS, batch=BATCH, seeds=SEEDS)
    parser.add_argument("--tiny", action="store_true", help="few images; give few --steps, a small --batch and --out")
    chosen = parser.parse_args(arguments)
    run_study("massl-claims", jobs(chosen), chosen, markdown)


if __name__ == "__main__":
    main()
