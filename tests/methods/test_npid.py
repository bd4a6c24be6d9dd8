"""NPID against its loss by explicit probabilities and its memory as a plain table."""

import copy
import math

import pytest
import torch
from torch import nn
from view_cases import (
    DIM,
    INSTANCES,
    PROJECTION,
    batches,
    descend,
    make_encoder,
    make_instances,
    train,
    unit,
)

from torchbank.data import ViewBatch
from torchbank.methods import NPID, NPIDConfig
from torchbank.methods._step_generator import step_generator

NOISE, TEMPERATURE = 9, 0.2


def make_method(seed=0, **changes):
    settings = {"dim": DIM, "projection_dim": PROJECTION, "noise": NOISE, "temperature": TEMPERATURE}
    return NPID(make_encoder(seed), NPIDConfig(**(settings | changes)), dataset_size=INSTANCES)


class WrittenOut:
    """The paper's algorithm by hand; the noise of a step is the method's."""

    def __init__(self, method):
        self.network = copy.deepcopy(nn.Sequential(method.student.encoder, method.student.head))
        self.config, self.table, self.z = method.config, method.bank.embeddings.clone(), None

    def loss(self, v, ids, step):
        if self.config.loss == "softmax":
            return nn.functional.cross_entropy(v @ self.table.T / TEMPERATURE, ids)
        noise = torch.randint(INSTANCES, (NOISE,), generator=step_generator(0, step))
        similar = (v @ self.table[noise].T / TEMPERATURE).exp()
        if self.z is None:
            self.z = (INSTANCES / NOISE * similar.sum(1)).mean().item()

        def h(p):
            return p / (p + NOISE / INSTANCES)

        own = (v * self.table[ids]).sum(1).div(TEMPERATURE).exp() / self.z
        return (-h(own).log() - (1 - h(similar / self.z)).log().sum(1)).mean()

    def train(self, steps):
        losses = []
        for step, batch in enumerate(batches(steps)):
            v = unit(self.network(batch.views[0]))
            loss = self.loss(v, batch.ids, step)
            if self.config.proximal_weight:
                loss = loss + self.config.proximal_weight * (v - self.table[batch.ids]).square().sum(1).mean()
            descend([self.network], loss)
            self.table[batch.ids] = unit(0.5 * self.table[batch.ids] + 0.5 * v.detach())
            losses.append(loss.item())
        return losses


@pytest.mark.parametrize("changes", [{}, {"loss": "softmax"}, {"proximal_weight": 2.0}], ids=str)
def test_training__equals_the_algorithm_written_out(changes):
    method = make_method(**changes)
    written_out = WrittenOut(method)
    expected = written_out.train(20)
    torch.testing.assert_close(train(method, 20), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(method.bank.embeddings, written_out.table, rtol=1e-3, atol=1e-5)
    for ours, theirs in zip(method.student.parameters(), written_out.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    if written_out.z is not None:
        torch.testing.assert_close(method.log_normalizer.exp().item(), written_out.z / INSTANCES, rtol=1e-5, atol=0)


def test_normalizer__is_that_of_the_first_batch_also_after_loading():
    method, later = make_method(), make_method(seed=3)
    train(method, 1)
    first = method.log_normalizer.clone()
    train(method, 4)
    assert torch.equal(method.log_normalizer, first)
    train(later, 2)
    assert not torch.equal(later.log_normalizer, first)
    later.load_state_dict(method.state_dict())
    train(later, 2)
    assert torch.equal(later.log_normalizer, first)
    later.load_state_dict(make_method().state_dict())  # of an untrained one
    train(later, 1)
    assert not later.log_normalizer.isnan()


def test_memory__begins_with_random_directions():
    method = make_method()
    torch.testing.assert_close(method.bank.embeddings.norm(dim=1), torch.ones(INSTANCES))
    torch.manual_seed(99)  # the seed in the settings decides
    assert torch.equal(make_method(seed=5).bank.embeddings, method.bank.embeddings)
    other = NPID(make_encoder(), NPIDConfig(dim=DIM, projection_dim=PROJECTION, seed=1), dataset_size=INSTANCES)
    assert not torch.equal(other.bank.embeddings, method.bank.embeddings)


def test_prefill__is_every_instance_as_the_first_encoder_sees_it():
    method = make_method(prefill=True)
    assert [method.wants_prefill(step) for step in range(3)] == [True, False, False]
    instances = make_instances()
    parts = torch.randperm(INSTANCES, generator=torch.Generator().manual_seed(3)).split(7)
    method.prefill([ViewBatch((instances[ids],), torch.zeros_like(ids), ids) for ids in parts])
    torch.testing.assert_close(method.bank.embeddings, unit(method.student((instances,))[0]).detach())
    assert torch.equal(method.bank.view().fields["id"], torch.arange(INSTANCES))
    assert not make_method().wants_prefill(0)
    before = method.bank.embeddings.clone()
    losses = train(method, 40)
    assert losses[-1] < losses[0]
    assert not torch.equal(method.bank.embeddings, before)


def test_collapsed_loss__is_that_of_equal_embeddings():
    for loss in ("nce", "softmax"):
        method = make_method(loss=loss)
        train(method, 1)
        for _ in range(60):  # momentum 0.5: the first rows are forgotten
            ids = torch.arange(INSTANCES)
            method.bank.push(torch.ones(INSTANCES, PROJECTION), keys=ids, id=ids)
        nn.init.zeros_(method.student.head[-1].weight)
        nn.init.ones_(method.student.head[-1].bias)
        output = method(next(batches(1)), step=1)
        torch.testing.assert_close(output.logs["collapsed_loss"], output.loss.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("changes", "size", "message"),
    [
        ({}, None, "dataset_size is needed"),
        ({"capacity": 5}, INSTANCES, "capacity is 5 rows for 20 instances"),
        ({"noise": 0}, INSTANCES, "noise is 0"),
        ({"loss": "hinge"}, INSTANCES, "loss='hinge' is unknown"),
        ({"bank_momentum": 1.0}, INSTANCES, "momentum is 1.0"),
    ],
)
def test_config__bad_settings(changes, size, message):
    with pytest.raises(ValueError, match=message):
        NPID(make_encoder(), NPIDConfig(dim=DIM, **changes), dataset_size=size)


def test_capacity__may_be_more_than_the_instances():
    method = make_method(capacity=30)
    assert math.isfinite(train(method, 2)[-1])
