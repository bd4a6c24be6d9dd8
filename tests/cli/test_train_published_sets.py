"""XBM on published data sets by the command line: end to end on small folders in their layouts, and the recipes."""

import pytest

from published_layouts import write_cub, write_in_shop, write_sop, write_vehicle_id
from torchbank.cli._config import RunConfig
from torchbank.training import RunFolder, read_metrics

SMALL = (
    *("--counts", "any", "--image-size", "32", "--encoder", "convnet", "--dim", "8", "--workers", "0"),
    *("--steps", "6", "--start-step", "2", "--classes-per-batch", "3", "--images-per-class", "2", "--device", "cpu"),
    *("--log-every", "1", "--evaluate-every", "4", "--checkpoint-every", "4"),
)


def test_train__stanford_online_products(torchbank, tmp_path):
    write_sop(tmp_path / "sop", train=8, test=6)
    folder = RunFolder(tmp_path / "run")
    words = ("train", "xbm", "--data", "sop", "--root", tmp_path / "sop", "--run", folder.path, *SMALL)
    done = torchbank(*words, "--loss", "multi-similarity")
    assert done.code == 0, done.err
    summary = folder.read_summary()
    assert [summary["data"]["train"][key] for key in ("name", "images", "classes")] == ["sop", 32, 8]
    assert {"recall_at_1", "recall_at_10", "recall_at_100", "recall_at_1000"} <= summary["scores"].keys()
    assert summary["scores"]["queries"] == 24
    assert "R@1000" in done.out
    # The memory is as large as the training part, and began full.
    assert summary["bank"]["rows"] == 32
    assert read_metrics(folder.metrics)[2]["train/memory_rows"] == 32
    assert torchbank("train", "xbm", "--run", folder.path, "--resume").out == done.out
    scored = torchbank("evaluate", folder.path)
    assert scored.code == 0, scored.err
    assert all(f" {measure} " in scored.out for measure in ("mINP", "MAP@R, bicycle", "MAP@R, kettle"))


def test_train__in_shop_clothes(torchbank, tmp_path):
    write_in_shop(tmp_path / "clothes", train=8, test=6)
    folder = RunFolder(tmp_path / "run")
    done = torchbank("train", "xbm", "--data", "inshop", "--root", tmp_path / "clothes", "--run", folder.path, *SMALL)
    assert done.code == 0, done.err
    summary = folder.read_summary()
    # One query of each test item, and a gallery of the other images.
    assert summary["scores"]["queries"] == 6
    assert [name for name in summary["scores"] if name.startswith("recall_at")] == [
        f"recall_at_{k}" for k in (1, 10, 20, 30, 40, 50)
    ]
    assert summary["data"]["test"]["images"] == 24
    scored = torchbank("evaluate", folder.path)
    assert scored.code == 0, scored.err
    assert "MAP@R, WOMEN/Dresses" in scored.out


def test_train__vehicles_by_the_protocol_of_reidentification(torchbank, tmp_path):
    write_vehicle_id(tmp_path / "vehicles")
    folder = RunFolder(tmp_path / "run")
    words = ("--root", tmp_path / "vehicles", "--gallery", "one-each", "--run", folder.path, *SMALL)
    done = torchbank("train", "xbm", "--data", "vehicleid", *words)
    assert done.code == 0, done.err
    # Two vehicles of four images: one of each is the gallery, in ten draws.
    assert folder.read_summary()["scores"]["queries"] == 10 * 6


@pytest.mark.parametrize("name", ["sop", "inshop", "vehicleid"])
def test_recipe__is_the_published_one(name):
    config = RunConfig.default("xbm", name)
    training, method = config.training, config.method
    assert (config.encoder.encoder, config.data.image_size) == ("resnet50", 224)
    assert (method.dim, method.capacity, method.memory_weight) == (128, 1.0, 1.0)
    assert (method.start_step, method.prefill, method.loss, method.margin) == (1_000, True, "contrastive", None)
    assert (method.batch_normalize, method.memory_normalize) == ("anchor", "anchor")
    assert (training.optimizer, training.learning_rate, training.weight_decay) == ("adam", 3e-4, 5e-4)
    assert (training.steps, training.schedule, training.warmup_steps) == (34_000, "step", 0)
    assert (training.classes_per_batch, training.images_per_class) == (16, 4)


@pytest.mark.plain
def test_recipe__is_given_by_name(torchbank, tmp_path):
    done = torchbank("train", "xbm", "--config", "sop")
    assert done.code == 2
    assert "sop needs the place of its files; give it as --root DIR, with its lists and images" in done.err
    # The settings of a recipe go with other data as well.
    write_cub(tmp_path / "cub")
    words = ("--root", tmp_path / "cub", "--image-size", "32", "--weights", tmp_path / "none.pth")
    done = torchbank("train", "xbm", "--config", "sop", "--data", "cub", *words, "--counts", "any")
    assert "no weights file at" in done.err
    done = torchbank("train", "xbm", "--config", "birds")
    assert done.code == 2
    assert "birds" in done.err


@pytest.mark.plain
def test_train__says_that_a_list_is_not_the_official_one(torchbank, tmp_path):
    write_sop(tmp_path / "sop")
    done = torchbank("train", "xbm", "--data", "sop", "--root", tmp_path / "sop", "--run", tmp_path / "run")
    assert done.code == 2
    assert "Ebay_train.txt' lists 24 images of 6 classes (train); expected 59,551 of 11,318" in done.err
    assert "--counts any" in done.err
    assert not (tmp_path / "run").exists()
