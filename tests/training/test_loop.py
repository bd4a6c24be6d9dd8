"""The loop around a method; resumed training against training that was never interrupted."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_run import TINY, assert_same_run, tiny_method, tiny_split
from torch import nn

from torchbank import data, encoders
from torchbank.errors import BankStateError
from torchbank.io import read_tensors
from torchbank.training import Progress, RunFolder, fit, read_metrics


class Stop(Exception):
    """Interrupts a run from its progress callback."""


def _stop_at(step: int):
    def callback(progress: Progress) -> None:
        if progress.step >= step:
            raise Stop

    return callback


SPLIT = tiny_split()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "whole", {})
    return folder, fit(tiny_method(), SPLIT, TINY, folder=folder)


def test_fit__leaves_a_whole_run_folder(uninterrupted):
    folder, result = uninterrupted
    assert {"config.json", "metrics.jsonl", "model.safetensors", "bank.safetensors", "checkpoint", "summary.json"} <= {
        path.name for path in folder.path.iterdir()
    }
    summary = folder.read_summary()
    assert summary == result.summary
    assert summary["scores"]["queries"] == len(SPLIT.test)
    assert summary["bank"]["rows"] == summary["bank"]["capacity"] == 48
    assert summary["memory"]["activation_bytes"] > 0
    assert summary["data"]["train"]["fingerprint"] == SPLIT.train.fingerprint
    assert sum(summary["drift"]["count"]) > 0


def test_fit__metrics_tell_every_window_and_evaluation(uninterrupted):
    metrics = read_metrics(uninterrupted[0].metrics)
    losses = [line["step"] for line in metrics if "train/loss" in line]
    scores = [line["step"] for line in metrics if "test/map_at_r" in line]
    assert losses == list(range(3, 25, 3))
    assert scores == [10, 20, 24]
    assert all(math.isfinite(value) for line in metrics for value in line.values())
    # The warm-up of three steps ends at the highest learning rate.
    assert metrics[0]["train/learning_rate"] == TINY.learning_rate


def test_fit__model_file_is_the_encoder(uninterrupted):
    folder, result = uninterrupted
    encoder = encoders.build("convnet", dim=8, image_shape=(1, 8, 8))
    encoder.load_state_dict(read_tensors(folder.model)[0])
    again = encoders.encode(encoder, data.loader(SPLIT.test, batch_size=256))
    assert torch.equal(again.embeddings, result.test.embeddings)


# Plain: to check a list, beartype picks an item with Python's random stream, which a checkpoint holds.
@pytest.mark.plain
@pytest.mark.parametrize("step", [3, 9, 12, 20])
def test_resume__is_bit_for_bit_uninterrupted(tmp_path, uninterrupted, step):
    # Stops before the first checkpoint, after the memory began, in a window of metrics, at an evaluation.
    folder = RunFolder.create(tmp_path / "run", {})
    with pytest.raises(Stop):
        fit(tiny_method(), SPLIT, TINY, folder=folder, on_progress=_stop_at(step))
    fit(tiny_method(), SPLIT, TINY, folder=folder, resume=True)
    assert_same_run(folder, uninterrupted[0])


@pytest.mark.plain
def test_resume__of_a_finished_run_changes_nothing(tmp_path, uninterrupted):
    folder = RunFolder.create(tmp_path / "run", {})
    fit(tiny_method(), SPLIT, TINY, folder=folder)
    fit(tiny_method(), SPLIT, TINY, folder=folder, resume=True)
    assert_same_run(folder, uninterrupted[0])


def test_resume__other_images_are_refused(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {})
    with pytest.raises(Stop):
        fit(tiny_method(), SPLIT, TINY, folder=folder, on_progress=_stop_at(9))
    before = folder.metrics.read_bytes()
    other = data.Split(train=SPLIT.test, test=SPLIT.train)
    with pytest.raises(BankStateError, match="has seen other images"):
        fit(tiny_method(), other, TINY, folder=folder, resume=True)
    assert folder.metrics.read_bytes() == before


def test_fit__how_often_it_is_evaluated_does_not_matter(uninterrupted):
    config = replace(TINY, evaluate_every=1, checkpoint_every=0, log_every=24)
    result = fit(tiny_method(), SPLIT, config)
    assert torch.equal(result.test.embeddings, uninterrupted[1].test.embeddings)


def test_fit__worker_processes_do_not_matter(uninterrupted):
    result = fit(tiny_method(), SPLIT, replace(TINY, workers=1, evaluate_every=0))
    assert torch.equal(result.test.embeddings, uninterrupted[1].test.embeddings)


def test_fit__without_memory_is_plain_training(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {})
    result = fit(tiny_method(memory=False), SPLIT, replace(TINY, steps=4), folder=folder)
    assert result.summary["bank"] is None
    assert not folder.bank.exists()


def test_fit__progress_is_told_what_is_written(tmp_path):
    told = []
    folder = RunFolder.create(tmp_path / "run", {})
    fit(tiny_method(), SPLIT, replace(TINY, steps=4), folder=folder, on_progress=told.append)
    assert [{"step": progress.step, **progress.values} for progress in told] == read_metrics(folder.metrics)
    assert {progress.steps for progress in told} == {4}


class _Diverging(nn.Module):
    """A method by duck type, whose loss is not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
        self.bank = None

    def forward(self, batch, *, step):
        from torchbank.methods import MethodOutput

        return MethodOutput(self.encoder(batch.images).sum() * math.inf, {})

    def wants_prefill(self, step):
        return False

    def after_step(self):
        pass


def test_fit__a_loss_that_is_not_finite_stops_the_run():
    with pytest.raises(BankStateError, match=r"the loss is (nan|inf|-inf) at step 1; lower the learning rate"):
        fit(_Diverging(), SPLIT, TINY)
