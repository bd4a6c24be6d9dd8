"""MoCo against its algorithm written out with concatenated logits and a list for the queue."""

import copy

import pytest
import torch
from torch import nn
from view_cases import (
    DIM,
    INSTANCES,
    PROJECTION,
    assert_trains_alike,
    batches,
    descend,
    follow,
    make_encoder,
    train,
    unit,
)

from torchbank.methods import MoCo, MoCoConfig

CAPACITY, MOMENTUM, TEMPERATURE = 16, 0.9, 0.2


def config(**changes):
    settings = {"dim": DIM, "projection_dim": PROJECTION, "capacity": CAPACITY, "momentum": MOMENTUM}
    return MoCoConfig(**({**settings, "temperature": TEMPERATURE} | changes))


def make_method(seed=0, norm=False, **changes):
    return MoCo(make_encoder(seed, norm), config(**changes), dataset_size=INSTANCES)


class WrittenOut:
    """The paper's algorithm by hand."""

    def __init__(self, method):
        self.query = copy.deepcopy(nn.Sequential(method.student.encoder, method.student.head))
        self.key = copy.deepcopy(self.query)
        self.symmetric = method.config.symmetric
        self.queue, self.ids = torch.zeros(0, PROJECTION), torch.zeros(0, dtype=torch.int64)

    def contrast(self, query_view, key_view, ids):
        q = unit(self.query(query_view))
        k = unit(self.key(key_view)).detach()
        own = ids[:, None] == self.ids
        negatives = (q @ self.queue.T).masked_fill(own, -torch.inf)
        logits = torch.cat([(q * k).sum(1, keepdim=True), negatives], dim=1) / TEMPERATURE
        return nn.functional.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64)), k

    def train(self, steps):
        losses = []
        for batch in batches(steps):
            first, second = batch.views
            loss, keys = self.contrast(first, second, batch.ids)
            ids = batch.ids
            if self.symmetric:
                other, more = self.contrast(second, first, batch.ids)
                loss, keys, ids = loss + other, torch.cat([more, keys]), ids.repeat(2)
            descend([self.query], loss)
            follow(self.key, self.query, MOMENTUM)
            self.queue = torch.cat([self.queue, keys])[-CAPACITY:]
            self.ids = torch.cat([self.ids, ids])[-CAPACITY:]
            losses.append(loss.item())
        return losses


@pytest.mark.parametrize(
    "changes",
    [{}, {"head": "linear"}, {"head": "mlp-bn"}, {"symmetric": True}, {"batch_norm": "whole"}],
    ids=str,
)
def test_training__equals_the_algorithm_written_out(changes):
    method = make_method(**changes)
    written_out = WrittenOut(method)
    expected = written_out.train(20)
    assert_trains_alike(method, train(method, 20), written_out.queue, expected, written_out.query)
    for ours, theirs in zip(method.teacher.parameters(), written_out.key.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    assert method.bank.ordered().fields["id"].tolist() == written_out.ids.tolist()


def test_own_key__is_never_a_negative():
    method = make_method()
    batch = next(batches(1))
    method(batch, step=0)
    assert len(method.bank) == 0  # remembered only after the update
    method.after_step()
    assert len(method.bank) == len(batch.ids)
    # Of one instance the queue would hold old keys only: there is nothing to tell apart.
    method.bank.push(torch.randn(CAPACITY, PROJECTION), id=torch.zeros(CAPACITY, dtype=torch.int64))
    assert method(batch._replace(ids=torch.zeros_like(batch.ids)), step=1).loss == 0
    assert method(batch._replace(ids=torch.ones_like(batch.ids)), step=1).loss > 0


def test_after_step__pushes_all_forward_passes_of_an_update_at_once():
    method = make_method()
    first, second = batches(2)
    for batch in (first, second):
        method(batch, step=3).loss.backward()
    method.after_step()
    assert method.bank.pushes == 1
    assert method.bank.view().fields["id"].tolist() == [*first.ids.tolist(), *second.ids.tolist()]
    assert (method.bank.view().steps == 3).all()
    method.after_step()
    assert method.bank.pushes == 1


def test_evaluation_mode__remembers_nothing():
    method = make_method().eval()
    method(next(batches(1)), step=0)
    method.after_step()
    assert len(method.bank) == 0


def test_teacher__moves_after_the_step_only():
    method = make_method()
    before = copy.deepcopy(method.teacher.state_dict())
    method(next(batches(1)), step=0).loss.backward()
    torch.testing.assert_close(method.teacher.state_dict(), before, rtol=0, atol=0)
    for weight in method.student.parameters():
        weight.data += 1.0
    method.after_step()
    for name, weight in method.student.named_parameters():
        moved = method.teacher.encoder.get_parameter(name)
        torch.testing.assert_close(moved, MOMENTUM * before[f"encoder.{name}"] + (1 - MOMENTUM) * weight)
        assert moved.grad is None


def test_cosine_momentum__reaches_one():
    method = make_method(momentum_schedule="cosine", total_steps=5)
    train(method, 5)
    still = copy.deepcopy(method.teacher.encoder.state_dict())
    train(method, 1)
    torch.testing.assert_close(method.teacher.encoder.state_dict(), still, rtol=0, atol=1e-6)


def test_split_batch_norm__takes_statistics_of_parts_for_queries_and_keys():
    method = make_method(norm=True, batch_norm="split", batch_norm_parts=3)
    plain = make_method(norm=True)
    assert method.state_dict().keys() == plain.state_dict().keys()
    batch = next(batches(1))
    queries = method._query(batch.views[0])
    parts = [plain._query(part) for part in batch.views[0].split(2)]
    torch.testing.assert_close(queries, torch.cat(parts))
    # A key's part is not its query's: it is encoded in another order.
    keys = method._keys(batch.views[1], step=0, stream=0)
    in_order = torch.cat([plain._keys(part, 0, 0) for part in batch.views[1].split(2)])
    assert not torch.allclose(keys, in_order)
    train(method, 5)


def test_shuffled_keys__come_back_in_their_own_order():
    method = make_method(norm=True)
    view = next(batches(1)).views[0]
    for step in range(5):
        torch.testing.assert_close(method._keys(view, step, 0), method.teacher((view,))[0])


def test_capacity__larger_than_the_data_set_warns_once():
    with pytest.warns(UserWarning, match="holds 50 rows and the data set 20 instances") as caught:
        method = make_method(capacity=50)
    assert len(caught) == 1
    train(method, 10)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capacity": 0}, "capacity is 0; expected a number above 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"head": "conv"}, "head='conv' is unknown"),
        ({"batch_norm": "none"}, "batch_norm='none' is unknown; choose one of 'whole', 'split', 'shuffled'"),
        ({"momentum_schedule": "cosine"}, "give the number of updates"),
        ({"momentum": 1.5}, "momentum=1.5 is out of range"),
        ({"capacity": 0.5}, "dataset_size is needed"),
        ({"monitor_drift": True}, "dataset_size is needed"),
    ],
)
def test_config__bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        MoCo(make_encoder(), config(**changes))
