"""Self-supervised methods with the same network, batches and steps: what their frozen features are good for.

python -m benchmarks.self_supervised    # about 25 minutes on 2 cores; goes on if stopped
python -m benchmarks.self_supervised --tiny --steps 4 --batch 32 --seeds 0 --runs /tmp/ssl --out /tmp/ssl.json

Each run trains and is scored in a process of its own. Labels are used by the scores only.
"""

import argparse
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
from torch import nn

from torchbank import data, encoders, evaluation, methods, training
from torchbank.encoders import Encoded
from torchbank.errors import BankValueError
from torchbank.report import Spread
from torchbank.training import TrainingConfig

from .jobs import Job, Record
from .study import options, run_study


class Contestant(NamedTuple):
    """A row: its name, the method's name in the library (None trains nothing), and the method's settings."""

    title: str
    method: str | None
    config: Record


DIM = 128
# Half as wide as the network of `make demo`: a quarter of its work.
WIDTHS = (16, 32, 64, 128)
BATCH, STEPS, SEEDS = 128, 1_000, (0, 1)
LEARNING_RATE, WEIGHT_DECAY, WARMUP = 2e-3, 1e-4, 50
# Two views an image for everyone, so that all see as many.
AUGMENTATIONS = {"kanji": "glyph-views", "fashion-mnist": "moco-cifar"}
# Of Fashion-MNIST's 60,000 labelled images, so many (balanced, the same for all) are embedded for the scores.
LABELLED = 20_000
# Of kanji's 1,483 test classes, so many are told apart: a linear layer for all of them takes as long as the training.
CLASSES = 200
# An unseen class has five labelled images at most.
KS = {"kanji": 5, "fashion-mnist": 20}

# Papers' settings are for 100 to 1,000 epochs; these runs see each image a few times, so memories are small and fresh
# and teachers follow quickly. What is not named is the default of the method.
HEAD: Record = {"dim": DIM, "projection_dim": 64}
QUEUE: Record = {"capacity": 4_096}
METHODS = {
    "random": Contestant("random encoder", None, {}),
    "simclr": Contestant("in-batch InfoNCE (SimCLR)", "simclr", {**HEAD, "hidden_dim": 256, "temperature": 0.2}),
    "moco": Contestant(
        "MoCo v2",
        "moco",
        {**HEAD, **QUEUE, "temperature": 0.2, "momentum": 0.99, "batch_norm": "split", "batch_norm_parts": 4},
    ),
    "npid": Contestant("NPID", "npid", {**HEAD, "temperature": 0.1}),
    "nnclr": Contestant(
        "NNCLR",
        "nnclr",
        {**HEAD, **QUEUE, "hidden_dim": 256, "prediction_hidden_dim": 256, "temperature": 0.2},
    ),
    "massl": Contestant(
        "MaSSL", "massl", {**HEAD, **QUEUE, "hidden_dim": 256, "block_size": QUEUE["capacity"] // 4, "momentum": 0.99}
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
    Measure("minutes", "minutes", 1.0),
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
    return data.Split(*map(_few_images, split)) if tiny else split


def _few_images(images: Any) -> data.ArrayImages:
    rows = torch.cat([(images.labels == label).nonzero()[:20, 0] for label in images.labels.unique()[:10]])
    pixels = (images.images(rows) * 255).round().to(torch.uint8)
    return data.ArrayImages(pixels, images.labels[rows], class_names=images.class_names, name=images.name)


def train(split: data.Split, settings: Record) -> tuple[nn.Module, Record, float]:
    """Train what the settings name.

    Returns:
        The encoder, what the last steps logged about its health, and the seconds that the steps took.
    """
    training.seed_everything(settings["seed"])
    channels = split.train.image_shape[0]
    encoder = encoders.ConvNet(DIM, channels=channels, widths=WIDTHS)
    name = settings["method"]
    if name is None:
        return encoder, {}, 0.0
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
    fitted = training.fit(method, split, plan, on_progress=lambda progress: logs.update(progress.values))
    health = {name: value for name, value in logs.items() if name.startswith("train/")}
    return method.encoder, health, fitted.summary["timing"]["seconds_in_steps"]


def config_of(settings: Record) -> Any:
    """The configuration of a method, with what it takes from the run: its seed and how many updates there are."""
    config = methods.METHODS[settings["method"]].config(**settings["config"])
    run = {"seed": settings["seed"], "total_steps": settings["steps"]}
    return replace(config, **{field.name: run[field.name] for field in fields(config) if field.name in run})


def own_scores(encoder: nn.Module, split: data.Split) -> Record:
    """Scores on the data set of the training; None for what it has too few labels for."""
    labelled, asked = features(encoder, split)
    test = asked if split.shares_classes else _embed(encoder, split.test)
    result: Record = probes(split.test.name, labelled, asked)
    each = len(labelled.labels) / len(labelled.labels.unique())
    for percent in (1, 10):
        enough = round(each * percent / 100) >= 1
        result[f"low_shot_{percent}"] = (
            evaluation.low_shot(labelled, asked, fraction=percent / 100).accuracy if enough else None
        )
    return {**result, "retrieval": evaluation.retrieval(test.embeddings, test.labels).mean_average_precision}


def probes(name: str, labelled: Encoded, asked: Encoded) -> Record:
    """k-NN and the linear probe."""
    k = KS[name]
    return {
        "knn": evaluation.knn(labelled, asked, ks=(k,)).accuracy[k],
        "linear": evaluation.linear_probe(labelled, asked, weight_decays=(1e-1, 1e-2, 1e-3, 1e-4)).accuracy,
    }


def features(encoder: nn.Module, split: data.Split) -> tuple[Encoded, Encoded]:
    """Images with labels and images to classify: train and test, or halves of classes that were never trained on."""
    if not split.shares_classes:
        labels = split.test.labels
        rows = torch.isin(labels, labels.unique()[:CLASSES]).nonzero()[:, 0]
        halves = evaluation.support_and_query(labels[rows])
        support, query = (_embed(encoder, split.test, rows[half]) for half in halves)
        return support, query
    rows = torch.arange(len(split.train))
    if len(rows) > LABELLED:
        rows = evaluation.low_shot_rows(split.train.labels, fraction=LABELLED / len(rows))
    return _embed(encoder, split.train, rows), _embed(encoder, split.test)


def _embed(encoder: nn.Module, images: Any, rows: torch.Tensor | None = None) -> Encoded:
    rows = torch.arange(len(images)) if rows is None else rows
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
