"""RevisitDrift against a dictionary of last embeddings, and against an encoder whose drift is known."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from torchbank.drift import RevisitDrift
from torchbank.errors import BankError


def observations(visits, metric):
    """(age, squared distance) of every revisit, by hand."""
    last, found = {}, []
    for step, embeddings, ids in visits:
        rows = embeddings.float()
        rows = normalize(rows, dim=1) if metric == "cosine" else rows
        before = dict(last)
        for row, key in zip(rows, ids.tolist(), strict=True):
            if key in before:
                then, old = before[key]
                found.append((step - then, (row - old).square().sum().item()))
            last[key] = (step, row)
    return found


def random_visits(count, capacity, dim, seed=0, batch=8):
    generator = torch.Generator().manual_seed(seed)
    step = 0
    for _ in range(count):
        step += int(torch.randint(1, 40, (), generator=generator))
        ids = torch.randint(capacity, (batch,), generator=generator)
        yield step, torch.randn(batch, dim, generator=generator), ids


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_observe__equals_a_dictionary_of_last_embeddings(metric):
    visits = list(random_visits(200, 60, 5))
    drift = RevisitDrift(60, 5, metric=metric)
    for step, embeddings, ids in visits:
        drift.observe(embeddings, ids, step=step)
    by_age = drift.by_age()
    ages, distances = (np.array(column) for column in zip(*observations(visits, metric), strict=True))
    # Two buckets an octave, from the whole numbers at or above sqrt(2)^i.
    edges = sorted({math.ceil(2 ** (i / 2)) for i in range(41)})
    bucket = np.digitize(ages, edges)
    assert by_age.count.sum() == len(ages)
    for row, here in enumerate(np.unique(bucket)):
        chosen = bucket == here
        assert by_age.count[row] == chosen.sum()
        assert by_age.age[row].item() == pytest.approx(ages[chosen].mean())
        assert by_age.mean[row].item() == pytest.approx(distances[chosen].mean(), rel=1e-5)


def test_observe__linear_encoder_with_known_weight_change():
    """z_t(x) = (W + t V) x drifts by exactly a^2 mean |V x|^2 in a steps."""
    torch.manual_seed(0)
    images, weight, velocity = torch.randn(32, 9), torch.randn(9, 4), 0.01 * torch.randn(9, 4)
    drift = RevisitDrift(32, 4, metric="dot")
    steps, ids = [0, 1, 3, 7, 15, 31, 63], torch.arange(32)
    for step in steps:
        drift.observe(images @ (weight + step * velocity), ids, step=step)
    by_age = drift.by_age()
    ages = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    torch.testing.assert_close(by_age.age, ages)
    torch.testing.assert_close(by_age.mean, ages**2 * (images @ velocity).square().sum(1).mean(), rtol=1e-4, atol=0)
    assert (by_age.count == 32).all()


def test_observe__on_the_sphere_is_two_minus_two_cos():
    drift = RevisitDrift(1, 2)
    angle = 0.3
    for step in range(5):
        turned = torch.tensor([[math.cos(angle * step), math.sin(angle * step)]])
        drift.observe((1 + step) * turned, torch.tensor([0]), step=step)  # length does not matter
    by_age = drift.by_age()
    assert by_age.age.tolist() == [1.0]
    assert by_age.mean.item() == pytest.approx(2 - 2 * math.cos(angle), rel=1e-5)
    assert by_age.count.tolist() == [4]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 20.0])
def test_quantiles__are_right_to_a_few_per_cent(scale):
    torch.manual_seed(0)
    before, moved = torch.zeros(4_000, 3), scale * torch.randn(4_000, 3)
    drift = RevisitDrift(4_000, 3, metric="dot")
    drift.observe(before, torch.arange(4_000), step=0)
    drift.observe(moved, torch.arange(4_000), step=10)
    distances = moved.square().sum(1)
    by_age = drift.by_age()
    assert by_age.median.item() == pytest.approx(distances.quantile(0.5).item(), rel=0.04)
    assert by_age.p90.item() == pytest.approx(distances.quantile(0.9).item(), rel=0.04)


def test_by_age__of_nothing_is_empty():
    drift = RevisitDrift(5, 2)
    assert drift.by_age().count.tolist() == []
    drift.observe(torch.ones(3, 2), torch.arange(3), step=0)
    assert all(len(column) == 0 for column in drift.by_age())
    drift.observe(torch.ones(0, 2), torch.zeros(0, dtype=torch.int64), step=1)
    assert drift.by_age().count.tolist() == []


def test_observe__same_step_is_age_zero():
    drift = RevisitDrift(5, 2, metric="dot")
    for value in (0.0, 2.0):
        drift.observe(torch.full((1, 2), value), torch.tensor([4]), step=7)
    by_age = drift.by_age()
    assert (by_age.age.tolist(), by_age.mean.tolist()) == ([0.0], [8.0])


def test_reset__forgets_statistics_but_not_embeddings():
    drift = RevisitDrift(5, 2)
    for step in range(3):
        drift.observe(torch.ones(2, 2), torch.arange(2), step=step)
    drift.reset()
    assert drift.by_age().count.tolist() == []
    drift.observe(torch.ones(2, 2), torch.arange(2), step=4)
    assert drift.by_age().age.tolist() == [2.0]


def test_state_dict__goes_on_bit_for_bit():
    visits = list(random_visits(60, 20, 4))
    straight, first, second = (RevisitDrift(20, 4) for _ in range(3))
    for step, embeddings, ids in visits:
        straight.observe(embeddings, ids, step=step)
    for step, embeddings, ids in visits[:25]:
        first.observe(embeddings, ids, step=step)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for step, embeddings, ids in visits[25:]:
        second.observe(embeddings, ids, step=step)
    torch.testing.assert_close(second.state_dict(), straight.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(second.by_age(), straight.by_age(), rtol=0, atol=0)


def test_dtype__parent_conversions_and_half_inputs():
    drift = RevisitDrift(8, 4)
    parent = torch.nn.Sequential(drift).half()
    ids = torch.arange(8)
    torch.manual_seed(0)
    first, second = torch.randn(8, 4), torch.randn(8, 4)
    parent[0].observe(first.to(torch.bfloat16).requires_grad_(), ids, step=0)
    parent[0].observe(second.to(torch.bfloat16), ids, step=3)
    expected = (normalize(first, dim=1) - normalize(second, dim=1)).square().sum(1).mean()
    assert drift.by_age().mean.item() == pytest.approx(expected.item(), rel=1e-2)
    small = RevisitDrift(8, 4, dtype=torch.float16)
    small.observe(first, ids, step=0)
    small.observe(second, ids, step=3)
    assert small.by_age().mean.item() == pytest.approx(expected.item(), rel=1e-3)
    assert small.record.embeddings.dtype == torch.float16


@pytest.mark.plain
def test_observe__compiles_to_one_graph():
    visits = list(random_visits(20, 30, 4))
    drift, eager = RevisitDrift(30, 4), RevisitDrift(30, 4)
    torch._dynamo.utils.counters.clear()
    observe = torch.compile(drift.observe, backend="aot_eager", fullgraph=True)
    for step, embeddings, ids in visits:
        observe(embeddings, ids, step=torch.tensor(step))
        eager.observe(embeddings, ids, step=step)
    torch.testing.assert_close(drift.by_age(), eager.by_age())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.plain
@pytest.mark.parametrize(
    ("embeddings", "ids", "message"),
    [
        (torch.ones(2, 3), torch.tensor([0, 5]), "key"),
        (torch.ones(2, 3), torch.tensor([0, -1]), "key"),
        (torch.ones(2, 4), torch.tensor([0, 1]), r"\(batch, 3\)"),
        (torch.ones(2, 3), torch.tensor([0]), r"\(1,\)"),
        (torch.tensor([[1.0, 1.0, 1.0], [float("nan"), 0.0, 0.0]]), torch.tensor([0, 1]), "1"),
    ],
)
def test_observe__bad_input_changes_nothing(embeddings, ids, message):
    drift = RevisitDrift(5, 3)
    for step in range(2):
        drift.observe(torch.rand(5, 3) + 0.1, torch.arange(5), step=step)
    before = copy.deepcopy(drift.state_dict())
    with pytest.raises(BankError, match=message):
        drift.observe(embeddings, ids, step=2)
    torch.testing.assert_close(drift.state_dict(), before, rtol=0, atol=0)
