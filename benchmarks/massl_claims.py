"""What MaSSL says about its memory, tried small: how many blocks, drawn anew or fixed, and of what.

python -m benchmarks.massl_claims    # about 5 minutes on 2 cores; goes on if stopped

Five seeds a variant. A run has collapsed where the features of the images that are classified are spread less than half
as far as those of the encoder that it began with.
"""

import argparse

from torch import Tensor
from torch.nn.functional import normalize

from torchbank.report import Spread

from .jobs import Job, Record
from .self_supervised import METHODS, QUEUE, features, load, probes, train
from .study import options, run_study

DATA, BATCH, STEPS, SEEDS = "fashion-mnist", 64, 200, (0, 1, 2, 3, 4)
COLLAPSED = 0.5

# What each changes of the method; None trains nothing.
VARIANTS: dict[str, Record | None] = {
    "untrained encoder": None,
    "one block": {"block_size": QUEUE["capacity"]},
    "4 blocks, fixed": {"partition": "fixed"},
    "4 blocks, random": {},
    "4 blocks, random, of a memory of random vectors": {"memory": "random"},
}


def work(settings: Record) -> Record:
    """Train one variant and score its encoder: a job of `benchmarks.jobs`."""
    split = load(settings["data"], tiny=settings["tiny"])
    untrained, _, _ = train(split, {**settings, "method": None})
    encoder, logs, _ = train(split, settings)
    labelled, asked = features(encoder, split)
    kept = spread(asked.embeddings) / spread(features(untrained, split)[1].embeddings)
    return {**probes(DATA, labelled, asked), "kept_spread": kept, "logs": logs}


def spread(embeddings: Tensor) -> float:
    """The distance of unit embeddings from their mean: the square root of its mean square."""
    unit = normalize(embeddings, dim=1)
    return (unit - unit.mean(dim=0)).square().sum(dim=1).mean().sqrt().item()


def jobs(chosen: argparse.Namespace) -> list[Job]:
    """One a variant and seed."""
    contestant = METHODS["massl"]
    shared = {"data": DATA, "steps": chosen.steps, "batch": chosen.batch, "tiny": chosen.tiny}
    found = []
    for number, (who, change) in enumerate(VARIANTS.items()):
        method = None if change is None else contestant.method
        config = {**contestant.config, **(change or {})}
        found += [
            Job(f"variant{number}-seed{seed}", {**shared, "method": method, "who": who, "seed": seed, "config": config})
            for seed in chosen.seeds
        ]
    return found


def markdown(runs: list[Record]) -> str:
    """The mean over seeds, with the standard deviation, and how many collapsed."""
    seeds = len({run["seed"] for run in runs})
    out = [
        f"`{runs[0]['data']}`, {runs[0]['steps']:,} steps of {runs[0]['batch']} images, a memory of "
        f"{QUEUE['capacity']:,} rows; mean ± standard deviation of {seeds} seeds, accuracies in %. The spread of the "
        f"features is in units of the untrained encoder's of the same seed; a run below {COLLAPSED:g} has collapsed.",
        "",
        "| memory | k-NN | linear | spread | collapsed |",
        "|---|---|---|---|---|",
    ]
    for who in dict.fromkeys(run["who"] for run in runs):
        mine = [run for run in runs if run["who"] == who]
        scales = {"knn": 100, "linear": 100, "kept_spread": 1}
        cells = [str(Spread(tuple(scale * run[key] for run in mine))) for key, scale in scales.items()]
        collapsed = sum(run["kept_spread"] < COLLAPSED for run in mine)
        out.append(f"| {who} | {' | '.join(cells)} | {collapsed} of {len(mine)} |")
    return "\n".join(out)


def main(arguments: list[str] | None = None) -> None:
    """Parse, run what has no result yet, write the file and the table."""
    parser = options("massl-claims", __doc__, steps=STEPS, batch=BATCH, seeds=SEEDS)
    parser.add_argument("--tiny", action="store_true", help="few images; give few --steps, a small --batch and --out")
    chosen = parser.parse_args(arguments)
    run_study("massl-claims", jobs(chosen), chosen, markdown)


if __name__ == "__main__":
    main()
