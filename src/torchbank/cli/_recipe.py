"""One run from its configuration: data, encoder, method, training, pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from torchbank import data, encoders, methods, report, training
from torchbank.cli._config import DataConfig, RunConfig
from torchbank.cli._settings import PUBLISHED_SETS
from torchbank.errors import BankStateError, BankValueError
from torchbank.training import FitResult, Progress, RunFolder, is_main_process

# These compare the images of a class; the other methods compare views of an image, and never see a class.
_NEEDS_LABELS = ("xbm",)
# What --root holds, of data that are nowhere by default.
_LAYOUTS = {
    "folder": "one folder a class",
    **dict.fromkeys(("cifar10", "cifar100"), "its archive or the folder it unpacks to"),
    **dict.fromkeys(PUBLISHED_SETS, "its lists and images as they are published"),
}


def train_run(
    config: RunConfig,
    path: str,
    *,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Train what a configuration says, in a run folder.

    Args:
        config: What to run.
        path: The run folder: it must not exist unless the run resumes.
        resume: Go on with the run in the folder; one that has finished is left as it is.
        on_progress: See `torchbank.training.fit`.

    Returns:
        The content of ``summary.json``.

    Raises:
        BankError: The configuration cannot run, or the folder exists or does not fit.
    """
    # Whatever can fail early does so before the folder is made.
    config, folder = config.resolved(), RunFolder(Path(path))
    if resume:
        _check_resumable(config, folder)
        if folder.summary.is_file():
            return folder.read_summary()
    elif is_main_process():
        folder.check_free()
    _check_augmentation(config)
    split = load_split(config.data)
    training.seed_everything(config.training.seed)
    loop = training.Loop(_build(config, split), split, config.training)
    if is_main_process() and not resume:
        RunFolder.create(path, config.as_json())
    result = loop.run(folder, resume=resume, on_progress=on_progress)
    if is_main_process():
        _draw(config, split, folder, result)
    return result.summary


def load_split(config: DataConfig) -> data.Split:
    """The data that a configuration names.

    Raises:
        BankError: There is no such data set, or it cannot be split.
    """
    if config.data == "kanji":
        return data.load("kanji")
    if config.root is None and config.data in _LAYOUTS:
        msg = f"{config.data} needs the place of its files; give it as --root DIR, with {_LAYOUTS[config.data]} in it"
        raise BankValueError(msg)
    root = {} if config.root is None else {"root": config.root}
    return data.load(config.data, **root, **_options(config))


def _options(config: DataConfig) -> dict[str, Any]:
    """What the loader of the data takes beside its root."""
    if config.data == "folder":
        names = ("image_size", "test_fraction", "lone_classes")
        return {"seed": config.split_seed, **{name: getattr(config, name) for name in names}}
    if config.data not in PUBLISHED_SETS:
        return {}
    options: dict[str, Any] = {"image_size": config.image_size}
    if config.counts == "any":
        options["counts"] = None
    if config.data == "vehicleid":
        options |= {"test_list": config.test_list, "gallery": config.gallery}
    return options


def build_encoder(config: RunConfig, split: data.Split) -> nn.Module:
    """The encoder that a configuration names, for the images, or texts, of a split.

    Raises:
        BankError: There is no such encoder, or it does not take the images or the weights.
    """
    shape = split.train.image_shape if isinstance(split.train, data.LabelledImages) else None
    return encoders.build(
        config.encoder.encoder, dim=config.method.dim, image_shape=shape, weights=config.encoder.weights
    )


def _check_resumable(config: RunConfig, folder: RunFolder) -> None:
    saved = RunConfig.from_json(RunFolder.open(folder.path).read_config())
    differences = config.differences(saved)
    if differences:
        msg = f"{folder.path} was begun with other settings ({'; '.join(differences)}); resume with the same ones"
        raise BankStateError(msg)


def _check_augmentation(config: RunConfig) -> None:
    """A method of labels gets images, one of views gets views."""
    name = config.training.augmentation
    has_views = config.data.data == "wordnet" or name in data.VIEW_NAMES
    if has_views == (config.method_name in _NEEDS_LABELS):
        wanted = (
            "one image of each, such as none, glyph or photo" if has_views else f"views, {', '.join(data.VIEW_NAMES)}"
        )
        msg = (
            f"{config.method_name} cannot train on {config.data.data} with --augmentation {name}; expected one that "
            f"gives {wanted}"
        )
        raise BankValueError(msg)


def _build(config: RunConfig, split: data.Split) -> nn.Module:
    encoder = build_encoder(config, split)
    return methods.build(config.method_name, encoder, config.method, dataset_size=len(split.train))


def memory_start(config: RunConfig, metrics: list[dict[str, Any]]) -> int | None:
    """The step from which a memory takes part, for pictures; None where it did from the beginning, or never."""
    start = getattr(config.method, "start_step", None)
    if start is None or config.method.memory is not True:
        return None
    if start != "auto":
        return start
    # The line that first tells of it averages over steps before as well.
    return next((line["step"] for line in metrics if "train/memory_loss" in line), None)


def _draw(config: RunConfig, split: data.Split, folder: RunFolder, result: FitResult) -> None:
    metrics = training.read_metrics(folder.metrics)
    start = memory_start(config, metrics)
    report.plot_loss(metrics, folder.plots / "loss.png", memory_start=start)
    report.plot_scores(metrics, folder.plots / "scores.png", memory_start=start)
    if isinstance(split.test, data.LabelledImages):
        report.plot_retrieval_sheet(split.test, result.test.embeddings, folder.plots / "retrieval.png")
    if report.has_health(metrics):
        report.plot_health(metrics, folder.plots / "health.png", drift=result.summary["drift"])
    draw_drift(config, folder, result.summary)


def draw_drift(config: RunConfig, folder: RunFolder, summary: dict[str, Any]) -> list[Path]:
    """Draw what a run measured of drift and of its cost, as far as there is enough of it.

    Returns:
        The pictures.
    """
    # Runs of before fidelity was measured have none.
    drift, fidelity, bank = summary["drift"], summary.get("fidelity"), summary["bank"]
    metrics = training.read_metrics(folder.metrics)
    oldest = None if bank is None else bank["rows"] // summary["batch_size"]
    drawn = []
    if drift is not None and max(drift["count"], default=0) >= report.FEWEST_REVISITS:
        drawn.append(folder.plots / "drift.png")
        report.plot_drift(drift, drawn[-1], oldest=oldest)
    if fidelity is not None and max(fidelity["count"], default=0) >= report.FEWEST_MEASUREMENTS:
        drawn.append(folder.plots / "fidelity.png")
        report.plot_fidelity(fidelity, drawn[-1], oldest=oldest)
    if report.has_slow_drift(metrics):
        drawn.append(folder.plots / "slow-drift.png")
        report.plot_slow_drift(metrics, drawn[-1], memory_start=memory_start(config, metrics))
    return drawn
