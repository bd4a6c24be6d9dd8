"""How stale a memory is, by the command line: trained with every cure, told and drawn."""

import json

import pytest

from torchbank.training import RunFolder, read_metrics

_TINY = (
    *("--data", "folder", "--image-size", "12", "--steps", "420", "--classes-per-batch", "4", "--dim", "8"),
    *("--memory-normalize", "active", "--evaluate-every", "0", "--checkpoint-every", "0", "--device", "cpu"),
)


@pytest.fixture(scope="module")
def automatic(torchbank, photos, tmp_path_factory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "automatic")
    gates = ("--start", "auto", "--max-age", "auto", "--fidelity-floor", "0.1", "--half-life", "50")
    done = torchbank("train", "xbm", "--root", photos, "--run", folder.path, *_TINY, *gates)
    assert done.code == 0, done.err
    return folder


def test_train__automatic_start_and_gate_take_part(automatic):
    method = automatic.read_config()["method"]
    assert (method["start_step"], method["max_age"], method["half_life"]) == ("auto", "auto", 50.0)
    metrics = read_metrics(automatic.metrics)
    begun = [line for line in metrics if "train/memory_loss" in line]
    assert begun[0]["step"] > 100  # nothing is measured before
    assert all(line["train/memory_age_limit"] > 0 for line in begun)
    assert any("train/drift_10" in line for line in metrics)
    assert any("train/drift_100" in line for line in metrics)


def test_drift__tells_draws_and_writes(torchbank, automatic):
    done = torchbank("drift", automatic.path, "--budget", "1e-6", "--rows", "12")
    assert done.code == 0, done.err
    summary = automatic.read_summary()
    assert f"{summary['drift']['mean'][0]:.3f}" in done.out
    assert "while training, images that were seen again" in done.out
    assert "at the end, rows of the memory encoded again" in done.out
    assert "rows at batch size 8 stay within a mean drift of 1e-06" in done.out
    for name in ("drift.png", "fidelity.png", "slow-drift.png"):
        assert (automatic.plots / name).is_file()
        assert str(automatic.plots / name) in done.out
    written = json.loads(automatic.drift.read_text())
    assert written["drift"] == summary["drift"]
    assert written["fidelity"] == summary["fidelity"]
    assert sum(written["final_drift"]["count"]) == 12
    assert written["oldest"] >= max(written["final_drift"]["age"]) - 1


def test_drift__without_looking_at_images(torchbank, automatic):
    done = torchbank("drift", automatic.path, "--rows", "0")
    assert done.code == 0, done.err
    assert "encoded again" not in done.out.replace("--rows", "")
    assert json.loads(automatic.drift.read_text())["final_drift"] is None


def test_drift__of_a_method_with_a_projection(torchbank, photos, tmp_path):
    words = ("--data", "folder", "--root", photos, "--image-size", "12", "--encoder", "convnet", "--dim", "8")
    short = ("--steps", "8", "--images-per-batch", "8", "--warmup-steps", "0", "--device", "cpu", "--monitor-drift")
    done = torchbank("train", "npid", *words, *short, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    done = torchbank("drift", tmp_path / "run")
    assert done.code == 0, done.err
    assert "encoded again" not in done.out


@pytest.mark.parametrize("correction", ["xbn", "axbn", "sdc"])
def test_train__with_a_correction(torchbank, photos, tmp_path, correction):
    short = ("--steps", "12", "--start", "4", "--correction", correction, "--max-age", "6")
    done = torchbank("train", "xbm", "--root", photos, "--run", tmp_path / "run", *_TINY, *short)
    assert done.code == 0, done.err
    method = RunFolder(tmp_path / "run").read_config()["method"]
    assert (method["correction"], method["max_age"], method["start_step"]) == (correction, 6, 4)


def test_drift__of_a_run_that_measured_none(torchbank, photos, tmp_path):
    short = ("--steps", "4", "--start-step", "2", "--no-monitor-drift")
    done = torchbank("train", "xbm", "--root", photos, "--run", tmp_path / "run", *_TINY, *short)
    assert done.code == 0, done.err
    done = torchbank("drift", tmp_path / "run")
    assert done.code == 2
    assert "measured no drift" in done.err
    done = torchbank("drift", tmp_path / "nothing")
    assert done.code == 2
    assert "is not a run folder" in done.err
