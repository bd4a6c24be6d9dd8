"""Words and their definitions: MoCo on WordNet's pairs, without and with a memory.

python -m benchmarks.wordnet_text    # about 14 minutes of processor time; goes on if stopped

Both sides have the same network, batches and steps. Without memory the negatives are the batch's; with memory they are
the keys of the batches before it. A test word looks for its definition among those of all test words, and back.
"""

import argparse
import time
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torchbank import data, encoders, evaluation, methods, training
from torchbank.errors import BankValueError
from torchbank.report import Spread
from torchbank.training import TrainingConfig

from .jobs import Job, Record
from .self_supervised import config_of
from .study import options, run_study

DIM, BATCH, STEPS, SEEDS = 128, 64, 5_000, (0, 1)
# A quarter of the rows and half the width of the encoder's defaults: most of a step is the optimiser's pass over them.
ROWS, WIDTH = 2**14, 128
LEARNING_RATE, WARMUP = 2e-3, 100


class Side(NamedTuple):
    """A method of the library (None trains nothing) and its settings.

    Temperature and learning rate, and the memory's momentum, are the best of four trials for each side by R@1 of 2,000
    pairs held out of the training pairs.
    """

    method: str | None
    config: Record


_HEAD: Record = {"dim": DIM, "projection_dim": DIM, "temperature": 0.05}
SIDES = {
    "untrained": Side(None, _HEAD),
    "without memory (in-batch InfoNCE)": Side("simclr", {**_HEAD, "hidden_dim": 256}),
    "MoCo, 16,384 keys": Side(
        "moco",
        {
            **_HEAD,
            "capacity": 16_384,
            "momentum": 0.999,
            "head": "mlp-bn",
            "symmetric": True,
            "batch_norm": "whole",
        },
    ),
}
MEASURES = {
    "forward_recall_at_1": "word to definition, R@1",
    "backward_recall_at_1": "definition to word, R@1",
    "forward_recall_at_10": "word to definition, R@10",
    "backward_recall_at_10": "definition to word, R@10",
}


def work(settings: Record) -> Record:
    """Train one side and score it: a job of `benchmarks.jobs`."""
    split = load()
    student, seconds = train(split, settings)
    return {"minutes": seconds / 60, **scores(student, split.test)}


def load() -> data.Split:
    """WordNet.

    Raises:
        SystemExit: It is not there.
    """
    try:
        return data.load("wordnet")
    except BankValueError as error:
        raise SystemExit(str(error)) from error


def train(split: data.Split, settings: Record) -> tuple[nn.Module, float]:
    """The trained network from views to what is compared, and the seconds of processor time that it took."""
    training.seed_everything(settings["seed"])
    encoder = encoders.NGramEncoder(DIM, rows=ROWS, width=WIDTH)
    if settings["method"] is None:
        return _OfEachView(encoder), 0.0
    method = methods.build(settings["method"], encoder, config_of(settings), dataset_size=len(split.train))
    plan = TrainingConfig(
        steps=settings["steps"],
        seed=settings["seed"],
        images_per_batch=settings["batch"],
        learning_rate=LEARNING_RATE,
        warmup_steps=min(WARMUP, settings["steps"] // 2),
        evaluate_every=0,
        checkpoint_every=0,
        device="cpu",
    )
    begin = time.process_time()
    training.fit(method, split, plan)
    return method.student, time.process_time() - begin


class _OfEachView(nn.Module):
    """An encoder without a head, called as one with a head is."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, views: tuple[Tensor, ...]) -> Tensor:
        return torch.stack([self.encoder(view) for view in views])


@torch.no_grad()
def scores(projected: nn.Module, pairs: data.LabelledExamples) -> Record:
    """Retrieval of partners among all pairs, by the projections that were trained to be near."""
    projected.eval()
    first, second = torch.cat([projected(batch.views) for batch in data.loader(pairs, batch_size=256)], dim=1)
    return evaluation.paired_retrieval(first, second).as_dict()


def markdown(runs: list[Record]) -> str:
    """The mean over seeds."""
    out = [
        f"{runs[0]['steps']:,} steps of {runs[0]['batch']} pairs, {runs[0]['pairs']:,} test pairs; mean ± standard "
        f"deviation of {len({run['seed'] for run in runs})} seeds, in %:",
        "",
        f"| negatives | {' | '.join(MEASURES.values())} | CPU minutes |",
        f"|{'---|' * (2 + len(MEASURES))}",
    ]
    for who in dict.fromkeys(run["who"] for run in runs):
        mine = [run for run in runs if run["who"] == who]
        cells = [str(Spread(tuple(100 * run[key] for run in mine))) for key in MEASURES]
        minutes = Spread(tuple(run["minutes"] for run in mine))
        out.append(f"| {who} | {' | '.join(cells)} | {minutes} |")
    return "\n".join(out)


def jobs(chosen: argparse.Namespace) -> list[Job]:
    """One a side and seed."""
    shared = {"steps": chosen.steps, "batch": chosen.batch}
    return [
        Job(f"{side.method}-seed{seed}", {"who": who, "seed": seed, **side._asdict(), **shared})
        for who, side in SIDES.items()
        for seed in chosen.seeds
    ]


def main(arguments: list[str] | None = None) -> None:
    """Parse, run what has no result yet, write the file and the table."""
    chosen = options("wordnet-text", __doc__, steps=STEPS, batch=BATCH, seeds=SEEDS).parse_args(arguments)
    load()  # before minutes are spent
    run_study("wordnet-text", jobs(chosen), chosen, markdown)


if __name__ == "__main__":
    main()
