"""Training on views: shuffled batches, several batches an update, resumed, and scored as the data asks."""

import itertools
from dataclasses import replace

import pytest
import torch
from tiny_run import TINY, assert_same_run, tiny_images
from torch import nn

from torchbank import data, encoders, evaluation, methods, training
from torchbank.errors import BankValueError
from torchbank.methods import MethodOutput
from torchbank.training import Progress, RunFolder, fit

VIEWS = replace(
    TINY,
    steps=14,
    images_per_batch=16,
    accumulate=2,
    augmentation="moco-v2",
    decayed="matrices",
    final_weight_decay=0.4,
    evaluate_every=6,
    checkpoint_every=5,
)
# Of 60 images, batches of 16: every fourth batch has 12.
SPLIT = data.Split(train=tiny_images(10, seed=0), test=tiny_images(10, seed=1))


def moco(**settings) -> nn.Module:
    training.seed_everything(0)
    encoder = encoders.build("convnet", dim=8, image_shape=(1, 8, 8))
    config = methods.MoCoConfig(**{"dim": 8, "projection_dim": 4, "capacity": 50, "monitor_drift": True, **settings})
    return methods.build("moco", encoder, config, dataset_size=60)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "whole", {})
    return folder, fit(moco(), SPLIT, VIEWS, folder=folder)


class Stop(Exception):
    """Interrupts a run from its progress callback."""


# Plain: to check a list, beartype picks an item with Python's random stream, which a checkpoint holds.
@pytest.mark.plain
def test_resume__of_accumulated_views_is_bit_for_bit_uninterrupted(tmp_path, uninterrupted):
    def stop(progress: Progress) -> None:
        if progress.step >= 9:
            raise Stop

    folder = RunFolder.create(tmp_path / "run", {})
    with pytest.raises(Stop):
        fit(moco(), SPLIT, VIEWS, folder=folder, on_progress=stop)
    fit(moco(), SPLIT, VIEWS, folder=folder, resume=True)
    assert_same_run(folder, uninterrupted[0])


def test_fit__shared_classes_are_scored_by_neighbours(uninterrupted):
    folder, result = uninterrupted
    method = moco()
    method.load_state_dict(training.load_checkpoint(folder.checkpoint)["method"])
    scores = training.evaluate(method.encoder, SPLIT)
    parts = [encoders.encode(method.encoder, data.loader(part, batch_size=7)) for part in SPLIT]
    accuracy = evaluation.knn(*parts, ks=(60,), temperature=0.1).accuracy[60]
    assert scores.scores == {"knn_accuracy": accuracy, "knn_k": 60, "knn_temperature": 0.1}
    assert result.summary["scores"].keys() == scores.scores.keys()
    assert result.summary["batch_size"] == 32


def test_fit__pushes_once_an_update(uninterrupted):
    method = moco()
    fit(method, SPLIT, replace(VIEWS, steps=1, evaluate_every=0))
    # Two batches of 16 under one step.
    assert len(method.bank) == 32
    assert method.bank.steps[:32].tolist() == [0] * 32
    assert uninterrupted[1].summary["bank"]["rows"] == 50


def test_fit__fills_the_memory_with_all_images_before_the_first_step():
    training.seed_everything(0)
    encoder = encoders.build("convnet", dim=8, image_shape=(1, 8, 8))
    config = methods.NPIDConfig(dim=8, projection_dim=4, loss="softmax", prefill=True)
    method = methods.build("npid", encoder, config, dataset_size=60)
    fit(method, SPLIT, replace(VIEWS, steps=1, accumulate=1, augmentation="npid", evaluate_every=0))
    # Each row once by the filling, and those of the first batch of 16 once more.
    assert sorted(method.bank.generations.tolist()) == [1] * 44 + [2] * 16


def _words(n: int, *, first: int) -> data.TextPairs:
    names = [f"word{number}" for number in range(first, first + n)]
    labels = torch.arange(first, first + n)
    return data.TextPairs(names, [f"the {name} itself" for name in names], labels, class_names=names, name="words")


def test_fit__text_pairs_are_scored_by_their_partners():
    training.seed_everything(0)
    split = data.Split(_words(40, first=0), _words(12, first=40))
    encoder = encoders.NGramEncoder(8, rows=64, width=8)
    config = methods.MoCoConfig(dim=8, projection_dim=4, capacity=64, symmetric=True)
    method = methods.build("moco", encoder, config)
    result = fit(method, split, replace(VIEWS, steps=3, accumulate=1, augmentation="none", evaluate_every=0))
    sides = [encoders.encode(encoder, data.loader(split.test, batch_size=5), view=view) for view in (0, 1)]
    expected = evaluation.paired_retrieval(sides[0].embeddings, sides[1].embeddings)
    assert result.summary["scores"] == expected.as_dict()
    torch.testing.assert_close(result.test.embeddings, torch.cat([side.embeddings for side in sides]))


def test_fit__each_precision_trains_to_about_the_same():
    # In one process, one after the other.
    config = replace(VIEWS, steps=4, evaluate_every=0)
    exact, *half = (fit(moco(), SPLIT, replace(config, precision=word)) for word in ("fp32", "bf16", "fp16"))
    for result in half:
        assert not torch.equal(result.test.embeddings, exact.test.embeddings)
        torch.testing.assert_close(result.test.embeddings, exact.test.embeddings, atol=0.05, rtol=0.05)


class Recorder(nn.Module):
    """A method by duck type: a linear loss, whose gradients and hooks are written down."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
        self.bank = None
        self.told, self.batches = [], []

    def forward(self, batch, *, step):
        self.told.append("forward")
        self.batches.append(batch)
        return MethodOutput(self.encoder(batch.images).square().mean(), {})

    def wants_prefill(self, step):
        return False

    def before_step(self):
        self.told.append("before_step")
        self.gradient = self.encoder[1].weight.grad.clone()
        # A gradient that is cut off here moves nothing.
        self.encoder[1].weight.grad.zero_()

    def after_step(self):
        self.told.append("after_step")


def test_update__averages_the_gradients_of_its_batches():
    method = Recorder()
    before = method.encoder[1].weight.detach().clone()
    config = replace(VIEWS, steps=1, accumulate=3, augmentation="none", optimizer="sgd", weight_decay=0.0)
    fit(method, SPLIT, replace(config, final_weight_decay=None))
    assert method.told == ["forward"] * 3 + ["before_step", "after_step"]
    weight = before.clone().requires_grad_()
    losses = [(batch.images.flatten(1) @ weight.T).square().mean() for batch in method.batches]
    torch.stack(losses).mean().backward()
    torch.testing.assert_close(method.gradient, weight.grad)
    assert torch.equal(method.encoder[1].weight, before)
    expected = data.ShuffledSampler(60, batch_size=16, seed=config.seed)
    assert [batch.ids.tolist() for batch in method.batches] == [expected.batch(number) for number in range(3)]


class Overflowing(Recorder):
    """Its gradients do not fit 16 bits once they are scaled, until the scale has come down far enough."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = []

    def forward(self, batch, *, step):
        self.weights.append(self.encoder[1].weight.detach().clone())
        return MethodOutput(100 * self.encoder(batch.images).mean(), {})

    def before_step(self):
        pass


def test_update__of_overflowing_gradients_moves_nothing():
    method = Overflowing()
    fit(method, SPLIT, replace(VIEWS, steps=12, accumulate=1, precision="fp16", augmentation="none", evaluate_every=0))
    moved = [not torch.equal(*pair) for pair in itertools.pairwise(method.weights)]
    # The scale is halved until they fit.
    assert not moved[0]
    assert moved[-1]
    assert moved == sorted(moved)
    assert method.told.count("after_step") == 12


@pytest.mark.plain
@pytest.mark.parametrize(
    ("encoder", "given"),
    [
        (nn.Conv2d(1, 2, 3), r"shape \(2, 2, 6, 6\) for 2 images"),
        (nn.Sequential(nn.Linear(8, 1), nn.Flatten(0)), r"shape \(16,\) for 2 images"),
        (nn.Sequential(nn.Flatten(1, 2), nn.LSTM(8, 2)), "a tuple for 2 images"),
    ],
)
def test_loop__an_encoder_that_gives_no_vectors_is_refused_at_once(encoder, given):
    method = Recorder()
    method.encoder = encoder
    with pytest.raises(BankValueError, match=rf"the encoder gave {given}; expected one vector an image"):
        training.Loop(method, SPLIT, VIEWS)
    assert method.told == []
