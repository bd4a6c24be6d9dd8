"""Methods that learn without labels, by the command line, on each kind of data."""

import struct
from pathlib import Path

import numpy as np
import pytest

from torchbank.cli._config import RunConfig
from torchbank.data import VIEW_NAMES
from torchbank.methods import METHODS
from torchbank.training import RunFolder, read_metrics

_TINY = (
    *("--steps", "4", "--images-per-batch", "16", "--evaluate-every", "2", "--log-every", "1", "--warmup-steps", "1"),
    *("--dim", "8", "--device", "cpu", "--encoder"),
)
_DATA = ("kanji", "fashion-mnist", "cifar10", "cifar100", "folder", "wordnet")


def _write_fashion_mnist(root: Path) -> None:
    random = np.random.default_rng(0)
    for part, count in (("train", 48), ("t10k", 20)):
        images, labels = random.integers(0, 256, (count, 12, 12)), random.integers(0, 10, count)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            (root / f"{part}-{kind}-ubyte").write_bytes(head + array.astype("u1").tobytes())


def _write_wordnet(root: Path) -> None:
    for name in ("noun", "verb", "adj", "adv"):
        lines = (f"{n:08} 03 n 01 {name}{n} 0 000 | the {name} of number {n}" for n in range(520))
        (root / f"data.{name}").write_text("\n".join(lines) + "\n")


def test_train__shared_classes_then_evaluated(torchbank, tmp_path):
    _write_fashion_mnist(tmp_path)
    folder = RunFolder(tmp_path / "run")
    words = ("train", "massl", "--data", "fashion-mnist", "--root", tmp_path, "--run", folder.path, *_TINY, "convnet")
    words += ("--capacity", 32, "--block-size", 8, "--hidden-dim", 8, "--projection-dim", 4, "--seed", 3)
    done = torchbank(*words, "--local-crops", 1, "--accumulate", 2)
    assert done.code == 0, done.err
    scores = folder.read_summary()["scores"]
    assert (scores["knn_k"], scores["knn_temperature"]) == (48, 0.1)
    assert f"{scores['knn_accuracy']:.1%}" in done.out
    config = folder.read_config()
    # What the method takes from the run is told with it.
    assert (config["method"]["seed"], config["method"]["total_steps"]) == (3, 4)
    assert config["training"]["augmentation"] == "massl"
    assert {"train/collapsed_loss", "train/learning_rate"} <= read_metrics(folder.metrics)[0].keys()
    assert torchbank("train", "massl", "--run", folder.path, "--resume").out == done.out


def test_train__words_and_meanings(torchbank, tmp_path):
    _write_wordnet(tmp_path)
    folder = RunFolder(tmp_path / "run")
    words = ("train", "moco", "--data", "wordnet", "--root", tmp_path, "--run", folder.path, *_TINY, "ngrams")
    done = torchbank(*words, "--capacity", 64, "--projection-dim", 4)
    assert done.code == 0, done.err
    summary = folder.read_summary()
    assert (summary["data"]["train"]["images"], summary["scores"]["pairs"]) == (80, 2_000)
    assert f"{summary['scores']['forward_recall_at_1']:.1%}" in done.out
    assert {path.name for path in folder.plots.iterdir()} >= {"loss.png", "scores.png"}


@pytest.mark.parametrize("data", _DATA)
@pytest.mark.parametrize("method", METHODS)
def test_defaults__are_settings_that_there_are(method, data):
    config = RunConfig.default(method, data)
    draws_views = method != "xbm" and data != "wordnet"
    assert (config.training.augmentation in VIEW_NAMES) == draws_views
    assert (config.training.images_per_batch is None) == (method == "xbm")


def test_defaults__of_moco_on_cifar10_are_its_authors_recipe():
    config = RunConfig.default("moco", "cifar10")
    training, method = config.training, config.method
    assert config.encoder.encoder == "resnet18-small"
    assert (training.optimizer, training.learning_rate, training.weight_decay) == ("sgd", 0.06, 5e-4)
    assert (training.schedule, training.warmup_steps) == ("cosine", 0)
    # 200 epochs of the whole batches in 50,000 images.
    assert (training.steps, training.batch_size, training.last_batch) == (200 * (50_000 // 512), 512, "drop")
    assert (method.capacity, method.temperature, method.momentum, method.symmetric) == (4_096, 0.1, 0.99, False)
    assert (method.batch_norm, method.batch_norm_parts, method.head) == ("split", 8, "linear")
    assert training.augmentation == "moco-cifar"


def test_batch_size__of_shuffled_batches_is_free():
    config = RunConfig.default("moco").with_batch_size(15)
    assert (config.training.images_per_batch, config.training.batch_size) == (15, 15)
