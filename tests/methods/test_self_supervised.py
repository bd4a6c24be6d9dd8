"""What every self-supervised method promises, whatever its algorithm."""

import copy
import math
import warnings
from dataclasses import fields

import pytest
import torch
from torch import nn
from view_cases import BATCH, DIM, INSTANCES, PROJECTION, SIZE, WORDS, batches, make_encoder, text_batch, train

from torchbank.errors import BankError
from torchbank.methods import METHODS, build

SMALL = {
    "moco": {"capacity": 16},
    "npid": {"noise": 9},
    "nnclr": {"capacity": 16, "hidden_dim": 7, "prediction_hidden_dim": 8},
    "massl": {"capacity": 18, "block_size": 5, "hidden_dim": 7, "total_steps": 15},
    "simclr": {"hidden_dim": 7},
}
WITH_MEMORY = [name for name in SMALL if name != "simclr"]
every_method = pytest.mark.parametrize("name", SMALL)


def make_method(name, encoder=None, seed=0, **changes):
    encoder = make_encoder(seed, norm=True) if encoder is None else encoder
    settings = {"dim": DIM, "projection_dim": PROJECTION} | SMALL[name] | changes
    return build(name, encoder, METHODS[name].config(**settings), dataset_size=INSTANCES)


@every_method
def test_encoder__is_the_one_that_was_given_and_learns(name):
    encoder = make_encoder()
    method = make_method(name, encoder)
    before = copy.deepcopy(encoder.state_dict())
    train(method, 3)
    assert method.encoder is encoder
    assert all(not torch.equal(encoder.state_dict()[key], value) for key, value in before.items())
    assert all(weight.requires_grad for weight in encoder.parameters())


@every_method
@pytest.mark.parametrize("stop", [1, 7])
def test_state_dict__goes_on_bit_for_bit(name, stop):
    changes = {"monitor_drift": True, **({"batch_norm": "split", "batch_norm_parts": 2} if name == "moco" else {})}
    straight = make_method(name, **changes)
    expected = train(straight, 15)
    first = make_method(name, **changes)
    train(first, stop)
    saved = copy.deepcopy(first.state_dict())
    assert all(isinstance(value, torch.Tensor) for value in saved.values())
    second = make_method(name, seed=5, **changes)
    second.load_state_dict(saved)
    assert train(second, 15, first=stop) == expected[stop:]
    torch.testing.assert_close(second.state_dict(), straight.state_dict(), rtol=0, atol=0)


@every_method
@pytest.mark.parametrize("capacity", [1, 7, 45])
def test_capacity__need_not_fit_the_batches_or_the_data(name, capacity):
    changes = {} if name == "simclr" else {"capacity": max(capacity, INSTANCES) if name == "npid" else capacity}
    changes |= {"block_size": min(5, capacity)} if name == "massl" else {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method = make_method(name, **changes)
        losses = train(method, 12)
    assert all(map(math.isfinite, losses))
    too_large = name in ("moco", "nnclr", "massl") and capacity > INSTANCES
    assert len(caught) == too_large


@every_method
def test_text__is_as_good_as_images(name):
    torch.manual_seed(0)
    method = make_method(name, nn.EmbeddingBag(WORDS, DIM))
    for step in range(3):
        output = method(text_batch(step), step=step)
        output.loss.backward()
        method.after_step()
    assert torch.isfinite(output.loss)
    assert method.encoder.weight.grad.abs().sum() > 0


@every_method
def test_autocast__trains_on_bfloat16_projections(name):
    method = make_method(name)
    for step, batch in enumerate(batches(4)):
        with torch.autocast("cpu", torch.bfloat16):
            output = method(batch, step=step)
        assert output.loss.dtype == torch.float32
        output.loss.backward()
        method.after_step()
    gradients = [weight.grad for weight in method.parameters() if weight.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    if method.bank is not None:
        assert method.bank.dtype == torch.float32


@every_method
def test_logs__are_detached_numbers_by_the_same_names(name):
    method = make_method(name)
    for step, batch in enumerate(batches(3)):
        output = method(batch, step=step)
        method.after_step()
    names = {"collapsed_loss", "embedding_std", "positive_similarity", "negative_similarity"}
    if name in WITH_MEMORY:
        names |= {"winner_entropy", "memory_rows", "memory_age"}
    assert set(output.logs) == names
    assert all(value.shape == () and not value.requires_grad for value in output.logs.values())
    assert all(torch.isfinite(value) for value in output.logs.values())
    if name in WITH_MEMORY:
        assert 0 <= output.logs["winner_entropy"] <= 1
        # Before this batch was remembered.
        assert output.logs["memory_rows"] == (12 if name in ("moco", "nnclr") else len(method.bank))


@every_method
def test_drift__is_read_from_revisits(name):
    method = make_method(name, monitor_drift=True)
    assert make_method(name).drift is None
    train(method, 12)
    observed = method.drift.by_age()
    assert observed.count.sum() > 20
    assert observed.age.max() <= 11


@every_method
def test_prefill__is_never_due(name):
    method = make_method(name)
    assert not any(method.wants_prefill(step) for step in range(5))
    method.prefill(iter(batches(2)))


@every_method
def test_copy__is_a_method_of_its_own(name):
    method = make_method(name)
    batch = next(batches(1))
    method(batch, step=0)  # waits to be remembered
    other = copy.deepcopy(method)
    for each in (method, other):
        each.after_step()
    torch.testing.assert_close(other.state_dict(), method.state_dict())
    train(method, 3)
    assert other.bank is None or not torch.equal(other.bank.embeddings, method.bank.embeddings)


@every_method
def test_settings__are_described(name):
    config = METHODS[name].config
    described = config.__doc__.split("Args:")[1]
    for setting in fields(config):
        assert f"\n        {setting.name}:" in described
    assert {"dim", "projection_dim", "temperature", "monitor_drift"} <= {setting.name for setting in fields(config)}


@pytest.mark.plain
@every_method
def test_encoder__of_another_shape_is_refused(name):
    for encoder in (nn.Linear(SIZE, DIM + 1), nn.Sequential(nn.Linear(SIZE, DIM), nn.Unflatten(1, (DIM, 1)))):
        with pytest.raises(ValueError, match=rf"expected \(\d+, {DIM}\), so pool its output") as raised:
            make_method(name, encoder)(next(batches(1)), step=0)
        assert isinstance(raised.value, BankError)


@pytest.mark.plain
@pytest.mark.parametrize("name", [name for name in SMALL if name != "npid"])
def test_views__too_few_are_refused(name):
    with pytest.raises(ValueError, match="the batch has 1 views; expected 2 or more"):
        make_method(name)(next(batches(1, views=1)), step=0)


def test_batch__is_as_large_as_said():
    assert [len(batch.ids) for batch in batches(3)] == [BATCH, BATCH, 4]
