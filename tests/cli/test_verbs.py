"""The verbs, one after the other, on a folder of small photographs."""

import json
import subprocess
import sys

import pytest

import torchbank as tb
from torchbank.training import RunFolder

_TINY = (
    *("--data", "folder", "--image-size", "12", "--steps", "12", "--classes-per-batch", "4", "--dim", "8"),
    *("--start-step", "4", "--memory-normalize", "active", "--evaluate-every", "6", "--log-every", "2"),
    *("--device", "cpu"),
)


@pytest.fixture(scope="module")
def trained(torchbank, photos, tmp_path_factory) -> tuple[RunFolder, str]:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "trained")
    done = torchbank("train", "xbm", "--root", photos, "--run", folder.path, *_TINY)
    assert done.code == 0, done.err
    return folder, done.out


def test_help__names_every_verb(torchbank):
    done = torchbank("--help")
    assert done.code == 0
    for verb in ("train", "compare", "evaluate", "drift", "inspect", "demo"):
        assert f"\n  {verb} " in done.out
        inner = torchbank(verb, "--help")
        assert inner.code == 0, inner.err
        assert "usage: torchbank" in inner.out


def test_help__of_a_method_groups_its_options(torchbank):
    done = torchbank("train", "xbm", "--help")
    assert done.code == 0, done.err
    for group in ("data options", "encoder options", "method options", "training options"):
        assert f" {group} " in done.out
    assert "--run runs/kanji --resume" in done.out


def test_module__is_the_command():
    done = subprocess.run([sys.executable, "-m", "torchbank", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == tb.__version__


def test_train__fills_the_run_folder_and_shows_it(trained):
    folder, out = trained
    assert {path.name for path in folder.path.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "bank.safetensors",
        "summary.json",
        "tensorboard",
        "plots",
    }
    assert {path.name for path in folder.plots.iterdir()} >= {"loss.png", "scores.png", "retrieval.png"}
    for picture in folder.plots.iterdir():
        assert str(picture) in out
    summary = folder.read_summary()
    assert f"{summary['scores']['map_at_r']:.1%}" in out
    config = folder.read_config()
    assert config["training"]["augmentation"] == "photo"
    assert config["method"]["start_step"] == 4


def test_train__resumed_needs_only_the_folder_and_keeps_what_is_finished(torchbank, trained):
    folder, out = trained
    summary = folder.summary.read_bytes()
    done = torchbank("train", "xbm", "--run", folder.path, "--resume")
    assert done.code == 0, done.err
    assert done.out == out
    assert folder.summary.read_bytes() == summary


def test_train__resumed_with_other_settings_is_refused(torchbank, trained):
    done = torchbank("train", "xbm", "--run", trained[0].path, "--resume", "--steps", "13")
    assert done.code == 2
    assert "was begun with other settings (steps: 13, not 12)" in done.err


def test_evaluate__finds_the_scores_of_the_summary(torchbank, trained):
    done = torchbank("evaluate", trained[0].path)
    assert done.code == 0, done.err
    scores = trained[0].read_summary()["scores"]
    for name in ("recall_at_1", "map_at_r", "r_precision", "mean_average_precision"):
        assert f"{scores[name]:.1%}" in done.out


def test_inspect__tells_what_the_bank_holds(torchbank, trained):
    by_folder, by_file = torchbank("inspect", trained[0].path), torchbank("inspect", trained[0].bank)
    assert by_folder.code == 0, by_folder.err
    assert by_folder.out == by_file.out
    bank = tb.load(trained[0].bank)
    for fact in (
        "MemoryBank",
        f"{len(bank)} of {bank.capacity}",
        "8, float32, cosine",
        f"{bank.nbytes:,}",
        "label",
        "id",
    ):
        assert fact in by_folder.out


def test_inspect__an_empty_bank(torchbank, tmp_path):
    tb.KeyedMemoryBank(4, 2).save(tmp_path / "empty.safetensors")
    done = torchbank("inspect", tmp_path / "empty.safetensors")
    assert done.code == 0, done.err
    assert "0 of 4" in done.out


def test_compare__sides_seeds_and_sizes_then_resumed(torchbank, photos, tmp_path):
    folder = tmp_path / "comparison"
    words = ["compare", "xbm", "--root", photos, "--run", folder, *_TINY, "--seeds", 1, "--batch-sizes", 4, 8]
    words += ["--without", "learning-rate=1e-3", "--with", "memory-weight=2", "prefill=False"]
    done = torchbank(*words)
    assert done.code == 0, done.err
    content = json.loads((folder / "comparison.json").read_text())
    assert [(group["batch_size"], group["memory"]) for group in content["groups"]] == [
        (4, "without"), (4, "with"), (8, "without"), (8, "with"),
    ]  # fmt: skip
    assert len(content["runs"]) == 4
    assert (folder / "plots" / "batch_sizes.png").is_file()
    without = RunFolder(folder / "batch4-without-seed1").read_config()
    with_memory = RunFolder(folder / "batch8-with-seed1").read_config()
    assert (without["method"]["memory"], with_memory["method"]["memory"]) == (False, True)
    assert (without["training"]["learning_rate"], with_memory["training"]["learning_rate"]) == (1e-3, 5e-4)
    assert (with_memory["method"]["memory_weight"], with_memory["method"]["prefill"]) == (2.0, False)
    assert (without["training"]["seed"], without["training"]["classes_per_batch"]) == (1, 2)

    (folder / "batch8-with-seed1" / "summary.json").unlink()
    again = torchbank(*words, "--resume")
    assert again.code == 0, again.err
    assert (folder / "batch8-with-seed1" / "summary.json").is_file()
    assert json.loads((folder / "comparison.json").read_text())["runs"][:3] == content["runs"][:3]
