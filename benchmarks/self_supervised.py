"""Self-supervised methods with the same network, batches and steps: what their frozen features are good for.

python -m benchmarks.self_supervised    # about 10 minutes on 2 cores; goes on if stopped
python -m benchmarks.self_supervised --tiny --steps 4 --batch 32 --seeds 0 --runs /tmp/ssl --out /tmp/ssl.json

Each run trains and is scored in a process of its own. Labels are used by the scores only.
"""

import argparse
import time
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torchbank import data, encoders, evaluation, methods, training
from torchbank.encoders import Encoded
from torchbank.errors import BankValueError
from torchbank.report import Spread
from torchbank.training import TrainingConfig

from .jobs import Job, Record
from .study import options, run_study


class Contestant(NamedTuple):
    """A row: its name, the method's name in the library (None trains nothing), and what was chosen for it."""

    title: str
    method: str | None
    config: Record


DIM = 128
# A quarter as wide as the network of `make demo`.
WIDTHS = (8, 16, 32, 64)
# A small batch, as it is where a memory is wanted.
BATCH, STEPS, SEEDS = 64, 500, (0, 1)
# Of the training images so many, drawn once: each is seen six times. A memory with one row an image is worth nothing
# before the second time.
IMAGES = 5_000
LEARNING_RATE, WEIGHT_DECAY, WARMUP = 5e-3, 1e-4, 50
# Two views an image for everyone, so that all see as many.
AUGMENTATIONS = {"kanji": "glyph-views", "fashion-mnist": "moco-v1"}
# Of Fashion-MNIST so many labelled images and test images (balanced, the same for all) are embedded for the scores.
LABELLED, ASKED = 10_000, 5_000
# Retrieval is among so many of them, and of kanji's 1,483 test classes so many are told apart: scoring would else take
# longer than training.
RETRIEVED, CLASSES = 2_000, 200
# An unseen class has five labelled images at most.
KS = {"kanji": 5, "fashion-mnist": 20}

# Papers' settings are for 100 to 1,000 epochs. Here memories are small and fresh, teachers follow quickly, and heads
# have batch norm, without which a small network takes a run of this length to spread its embeddings. What is not named
# is the method's default.
HEAD: Record = {"dim": DIM, "projection_dim": 64}
WIDE: Record = {**HEAD, "hidden_dim": 256}
QUEUE: Record = {"capacity": 4_096}
METHODS = {
    "random": Contestant("random encoder", None, {}),
    "simclr": Contestant("in-batch InfoNCE (SimCLR)", "simclr", {**WIDE, "temperature": 0.1}),
    "moco": Contestant(
        "MoCo v2, symmetric",
        "moco",
        {
            **HEAD,
            **QUEUE,
            "temperature": 0.1,
            "momentum": 0.996,
            "head": "mlp-bn",
            "symmetric": True,
            "batch_norm": "whole",
        },
    ),
    "npid": Contestant("NPID", "npid", {**HEAD, "temperature": 0.07, "loss": "softmax", "prefill": True}),
    "nnclr": Contestant("NNCLR", "nnclr", {**WIDE, **QUEUE, "prediction_hidden_dim": 256, "temperature": 0.1}),
    "massl": Contestant(
        "MaSSL",
        "massl",
        {**WIDE, **QUEUE, "head": "mlp-bn", "block_size": QUEUE["capacity"] // 4, "momentum": 0.9},
    ),
}


class Measure(NamedTuple):
    """A column: its key in a result, its heading, and what turns it into the number shown."""

    key: str
    heading: str
    scale: float = 100.0


MEASURES = (
    Measure("knn", "k-NN"),
    Measure("linear", "linear"),
    Measure("low_shot_1", "1 % labels"),
    Measure("low_shot_10", "10 % labels"),
    Measure("transfer_knn", "transfer, k-NN"),
    Measure("transfer_linear", "transfer, linear"),
    Measure("retrieval", "retrieval mAP"),
    Measure("minutes", "CPU minutes", 1.0),
    Measure("megabytes", "peak MB", 1.0),
)


def work(settings: Record) -> Record:
    """Train one method and score its encoder: a job of `benchmarks.jobs`."""
    split = load(settings["data"], tiny=settings["tiny"])
    encoder, logs, seconds = train(split, settings)
    result: Record = {"minutes": seconds / 60, "megabytes": training.peak_process_bytes() / 1e6, "logs": logs}
    result |= own_scores(encoder, split)
    other = next(name for name in AUGMENTATIONS if name != settings["data"])
    labelled, asked = features(encoder, load(other, tiny=settings["tiny"]))
    return result | {f"transfer_{name}": value for name, value in probes(other, labelled, asked).items()}


def load(name: str, *, tiny: bool) -> data.Split:
    """A data set; a tiny one holds 20 images of 10 classes.

    Raises:
        SystemExit: Fashion-MNIST is not there.
    """
    try:
        split = data.load(name)
    except BankValueError as error:
        raise SystemExit(str(error)) from error
    return data.Split(*(_part(images, _few(images.labels)) for images in split)) if tiny else split


def _few(labels: Tensor) -> Tensor:
    """The rows of 20 images of each of 10 classes."""
    return torch.cat([(labels == label).nonzero()[:20, 0] for label in labels.unique()[:10]])


def _part(images: Any, rows: Tensor) -> data.ArrayImages:
    pixels = (images.images(rows) * 255).round().to(torch.uint8)
    return data.ArrayImages(pixels, images.labels[rows], class_names=images.class_names, name=images.name)


def train(split: data.Split, settings: Record) -> tuple[nn.Module, Record, float]:
    """Train what the settings name on `IMAGES` of the training images.

    Returns:
        The encoder, what the last steps logged about its health, and the seconds of processor time of the training.
    """
    training.seed_everything(settings["seed"])
    encoder = encoders.ConvNet(DIM, channels=split.train.image_shape[0], widths=WIDTHS)
    name = settings["method"]
    if name is None:
        return encoder, {}, 0.0
    drawn = torch.randperm(len(split.train), generator=torch.Generator().manual_seed(0))[:IMAGES]
    # The loop scores its test part at the end: of a few images, for the scores of the table come later.
    split = data.Split(_part(split.train, drawn), _part(split.test, _few(split.test.labels)))
    logs: Record = {}
    method = methods.build(name, encoder, config_of(settings), dataset_size=len(split.train))
    plan = TrainingConfig(
        steps=settings["steps"],
        seed=settings["seed"],
        images_per_batch=settings["batch"],
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        warmup_steps=min(WARMUP, settings["steps"] // 2),
        augmentation=AUGMENTATIONS[settings["data"]],
        evaluate_every=0,
        checkpoint_every=0,
        device="cpu",
    )
    begin = time.process_time()
    training.fit(method, split, plan, on_progress=lambda progress: logs.update(progress.values))
    health = {name: value for name, value in logs.items() if name.startswith("train/")}
    return method.encoder, health, time.process_time() - begin


def config_of(settings: Record) -> Any:
    """The configuration of a method, with what it takes from the run: its seed and how many updates there are."""
    config = methods.METHODS[settings["method"]].config(**settings["config"])
    run = {"seed": settings["seed"], "total_steps": settings["steps"]}
    return replace(config, **{field.name: run[field.name] for field in fields(config) if field.name in run})


def own_scores(encoder: nn.Module, split: data.Split) -> Record:
    """Scores on the data set of the training; None for what it has too few labels for."""
    labelled, asked = features(encoder, split)
    result: Record = probes(split.test.name, labelled, asked)
    each = len(labelled.labels) / len(labelled.labels.unique())
    for percent in (1, 10):
        enough = round(each * percent / 100) >= 1
        result[f"low_shot_{percent}"] = (
            evaluation.low_shot(labelled, asked, fraction=percent / 100).accuracy if enough else None
        )
    few = _fewer(asked.labels, RETRIEVED)
    retrieved = evaluation.retrieval(asked.embeddings[few], asked.labels[few])
    return {**result, "retrieval": retrieved.mean_average_precision}


def probes(name: str, labelled: Encoded, asked: Encoded) -> Record:
    """k-NN and the linear probe."""
    k = KS[name]
    return {
        "knn": evaluation.knn(labelled, asked, ks=(k,)).accuracy[k],
        "linear": evaluation.linear_probe(labelled, asked, weight_decays=(1e-2, 1e-3)).accuracy,
    }


def features(encoder: nn.Module, split: data.Split) -> tuple[Encoded, Encoded]:
    """Images with labels and images to classify: train and test, or halves of classes that were never trained on."""
    if split.shares_classes:
        chosen = (_fewer(part.labels, rows) for part, rows in zip(split, (LABELLED, ASKED), strict=True))
        labelled, asked = (_embed(encoder, part, rows) for part, rows in zip(split, chosen, strict=True))
        return labelled, asked
    labels = split.test.labels
    rows = torch.isin(labels, labels.unique()[:CLASSES]).nonzero()[:, 0]
    support, query = evaluation.support_and_query(labels[rows])
    return _embed(encoder, split.test, rows[support]), _embed(encoder, split.test, rows[query])


def _fewer(labels: Tensor, rows: int) -> Tensor:
    """So many rows, as many of each class; all where there are no more."""
    if len(labels) <= rows:
        return torch.arange(len(labels))
    return evaluation.low_shot_rows(labels, fraction=rows / len(labels))


def _embed(encoder: nn.Module, images: Any, rows: Tensor) -> Encoded:
    batches = [block.tolist() for block in rows.split(training.EVALUATION_BATCH)]
    return encoders.encode(encoder, data.loader(images, batch_sampler=batches))


def jobs(chosen: argparse.Namespace) -> list[Job]:
    """One a data set, method and seed."""
    found = []
    for name in chosen.data:
        for method in chosen.methods:
            for seed in chosen.seeds:
                settings = {"data": name, "who": method, "seed": seed, **METHODS[method]._asdict()}
                settings |= {"steps": chosen.steps, "batch": chosen.batch, "tiny": chosen.tiny}
                found.append(Job(f"{name}-{method}-seed{seed}", settings))
    return found


def markdown(runs: list[Record]) -> str:
    """A table a data set: the mean over seeds, and their standard deviation."""
    parts = []
    for name in dict.fromkeys(run["data"] for run in runs):
        here = [run for run in runs if run["data"] == name]
        other = next(another for another in AUGMENTATIONS if another != name)
        parts.append(
            f"Trained on `{name}` without labels, {here[0]['steps']:,} steps of {here[0]['batch']} images; transfer is "
            f"to `{other}`. k-NN has T 0.07 and k {KS['kanji']} on kanji, k {KS['fashion-mnist']} on Fashion-MNIST. "
            f"Mean ± standard deviation of {len({run['seed'] for run in here})} seeds; accuracies and mAP in %:\n\n"
            f"| method | {' | '.join(measure.heading for measure in MEASURES)} |\n|{'---|' * (1 + len(MEASURES))}"
        )
        for who in dict.fromkeys(run["who"] for run in here):
            mine = [run for run in here if run["who"] == who]
            parts[-1] += f"\n| {METHODS[who].title} | {' | '.join(_cell(mine, measure) for measure in MEASURES)} |"
    return "\n\n".join(parts)


def _cell(runs: list[Record], measure: Measure) -> str:
    values = [run[measure.key] for run in runs]
    if None in values:
        return "-"
    if measure.key == "megabytes":
        return f"{max(values):,.0f}"
    return str(Spread(tuple(measure.scale * value for value in values)))


def main(arguments: list[str] | None = None) -> None:
    """Parse, run what has no result yet, write the file and the table."""
    parser = options("self-supervised", __doc__, steps=STEPS, batch=BATCH, seeds=SEEDS)
    parser.add_argument("--data", nargs="+", choices=AUGMENTATIONS, default=list(AUGMENTATIONS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--tiny", action="store_true", help="few images; give few --steps, a small --batch and --out")
    chosen = parser.parse_args(arguments)
    for name in AUGMENTATIONS:
        load(name, tiny=True)  # before minutes are spent
    run_study("self-supervised", jobs(chosen), chosen, markdown)


if __name__ == "__main__":
    main()
