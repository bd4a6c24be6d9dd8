"""The monitor on encoders whose drift is known, and its gate and capacity."""

import copy
import math

import pytest
import torch
from known_drift import linear, rotation
from torch.nn.functional import normalize

import torchbank as tb
from torchbank.drift import DriftMonitor, FreshnessGate, gradient_fidelity, recommended_capacity
from torchbank.errors import BankKeyError, BankStateError, BankValueError

IMAGES = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))


def mean_score(queries, rows, fields):
    return rows.pair_sum(queries, tb.reads.SCORE).value.mean()


def pull_own_label(queries, rows, fields):
    return tb.losses.contrastive(queries, rows, labels=fields["label"], ids=fields["id"], margin=0.0)


def watched(encode, steps, batch=16, **settings):
    """A monitor that has seen the images in turn, ``batch`` a step."""
    monitor = DriftMonitor(6, instances=64, **{"metric": "dot", "fields": {"label": torch.int64}, **settings})
    for step in range(steps):
        ids = (torch.arange(batch) + batch * step) % 64
        monitor.observe(encode(IMAGES[ids], step), ids, step=step, label=ids % 4)
    return monitor


def test_observe__linear_drift_and_the_capacity_it_allows():
    torch.manual_seed(0)
    weight, velocity = torch.randn(6, 6), 0.01 * torch.randn(6, 6)
    monitor = watched(lambda images, step: linear(images, weight, velocity, step), 40)
    by_age, per_step = monitor.by_age(), (IMAGES @ velocity).square().sum(1).mean().item()
    assert by_age.age.tolist() == [4.0]
    assert by_age.mean.item() == pytest.approx(16 * per_step, rel=1e-3)
    # From none at age 0 it is taken to grow linearly up to what was measured.
    assert monitor.age_within(drift=8 * per_step) == pytest.approx(2, rel=1e-3)
    assert monitor.recommended_capacity(8.1 * per_step) == 3 * 16
    assert monitor.recommended_capacity(8.1 * per_step, batch_size=10) == 30
    assert monitor.recommended_capacity(17 * per_step) is None
    assert monitor.age_within(drift=17 * per_step) == math.inf


def test_capacity__keeps_the_oldest_row_within_its_age():
    ages, drift = torch.tensor([5.0, 15.0, 30.0]), torch.tensor([0.1, 0.2, 0.6])
    assert recommended_capacity(ages, drift, budget=0.3, batch_size=4) == 4 * 19  # passed at age 18.75
    bank = tb.MemoryBank(4 * 19, 2)
    for _ in range(30):
        bank.push(torch.ones(4, 2))
    assert bank.age().max() == 18


@pytest.mark.parametrize("loss", [mean_score, pull_own_label])
def test_measure__of_a_frozen_encoder_is_one(loss):
    monitor = watched(lambda images, step: images, 12, metric="cosine")
    monitor.measure(loss)
    fidelity = monitor.fidelity_by_age()
    assert fidelity.age.tolist() == [4.0]
    torch.testing.assert_close(torch.stack(fidelity[1:4]), torch.ones(3, 1))
    assert monitor.age_within(fidelity=0.999) == math.inf


def test_measure__of_a_rotation_is_its_cosine():
    """The gradient of the mean score is the sum of the rows, so it turns with them."""
    monitor = DriftMonitor(2, instances=32, metric="dot")
    images = IMAGES[:32, :2] + 3
    for step in (0, 3, 9):
        monitor.observe(rotation(images, 10.0, step), torch.arange(32), step=step)
    monitor.measure(mean_score)
    fidelity = monitor.fidelity_by_age()
    assert fidelity.age.tolist() == [3.0, 6.0]
    torch.testing.assert_close(fidelity.mean, torch.tensor([math.cos(math.radians(a)) for a in (30, 60)]))
    assert monitor.age_within(fidelity=0.7) == pytest.approx(3 + 3 * (0.8660254 - 0.7) / (0.8660254 - 0.5), rel=1e-4)


def test_measure__is_the_fidelity_of_the_latest_pairs():
    torch.manual_seed(0)
    noise = torch.randn(12, 64, 6)
    monitor = watched(lambda images, step: images + noise[step, : len(images)], 12, metric="cosine")
    monitor.measure(pull_own_label)
    known = monitor.pairs.view()
    fields = {"label": monitor.pairs.columns["label"], "id": monitor.pairs.columns["id"]}
    chosen, newest = known.seen.nonzero().squeeze(1), monitor.pairs.newest(32)
    stored, fresh = (
        tb.Rows(side[chosen], "cosine", **{name: values[chosen] for name, values in fields.items()})
        for side in (known.before, known.after)
    )
    asked = {name: values[newest] for name, values in fields.items()}
    expected = gradient_fidelity(lambda q, rows: pull_own_label(q, rows, asked), known.after[newest], stored, fresh)
    assert monitor.fidelity_by_age().mean.item() == pytest.approx(expected.item(), abs=1e-5)


def test_measure__few_pairs_say_nothing():
    monitor = watched(lambda images, step: images, 4)  # all for the first time
    monitor.measure(mean_score)
    monitor.observe(IMAGES[:15], torch.arange(15), step=4, label=torch.zeros(15, dtype=torch.int64))
    monitor.measure(mean_score)
    assert len(monitor.fidelity_by_age().count) == 0
    assert monitor.age_within(fidelity=0.5) == math.inf


def test_measure__recent_ones_count_more():
    monitor = DriftMonitor(2, instances=32, metric="dot", pairs=32)
    images, angle = IMAGES[:32, :2] + 3, 0.0
    found = []
    for step, turn in enumerate((0.0, 60.0, 0.0)):
        angle += turn
        monitor.observe(rotation(images, angle, 1), torch.arange(32), step=step)
        monitor.measure(mean_score)
        found.append(monitor.recent.by_age()[1].tolist())
    assert found[0] == []
    assert found[1] == pytest.approx([0.5])
    assert found[2] == pytest.approx([(0.8 * 0.5 + 1) / 1.8])
    assert monitor.fidelity_by_age().mean.item() == pytest.approx(0.75)


def test_observe_pairs__probes_of_a_known_rotation():
    monitor, probes = DriftMonitor(6, metric="cosine"), IMAGES[:20]
    for age in (2, 5):
        monitor.observe_pairs(
            probes, 7 * rotation(probes, 9.0, age), torch.full((20,), age), ids=torch.arange(20), step=10
        )
    unit = normalize(probes, dim=1)
    for age, mean in zip(*monitor.by_age()[:2], strict=True):
        expected = (unit - rotation(unit, 9.0, age.item())).square().sum(1).mean()
        assert mean.item() == pytest.approx(expected.item(), rel=1e-4)
    monitor.measure(mean_score)
    assert monitor.fidelity_by_age().age.tolist() == [2.0, 5.0]


@pytest.mark.parametrize("kind", [tb.MemoryBank, tb.KeyedMemoryBank])
def test_observe_rows__encodes_a_sample_again(kind):
    bank = kind(64, 6, fields={"id": torch.int64, "label": torch.int64}, metric="cosine")
    for step, ids in enumerate(torch.arange(64).split(16)):
        keys = {"keys": ids} if kind is tb.KeyedMemoryBank else {}
        bank.push(rotation(IMAGES[ids], 5.0, step), id=ids, label=ids % 4, step=step, **keys)
    monitor = DriftMonitor(6, fields={"label": torch.int64})
    monitor.observe_rows(bank, lambda rows: rotation(IMAGES[rows.fields["id"]], 5.0, 3), rows=1_000)
    by_age = monitor.by_age()
    assert by_age.age.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert by_age.count.tolist() == [16] * 4
    assert by_age.mean[0].item() == pytest.approx(0, abs=1e-6)
    unit = normalize(IMAGES[:16], dim=1)
    assert by_age.mean[3].item() == pytest.approx(
        (unit - rotation(unit, 5.0, 3)).square().sum(1).mean().item(), rel=1e-4
    )
    monitor.measure(pull_own_label)
    assert monitor.fidelity_by_age().mean[0].item() == pytest.approx(1, abs=1e-5)
    sampled = DriftMonitor(6, fields={"label": torch.int64})
    sampled.observe_rows(
        bank, lambda rows: rows.embeddings, rows=20, step=9, generator=torch.Generator().manual_seed(0)
    )
    assert sampled.by_age().count.sum() == 20
    assert sampled.by_age().age.min() >= 6


def test_gate__is_closed_until_something_good_enough_was_measured():
    monitor, gate = DriftMonitor(2, instances=32, metric="dot", pairs=32), FreshnessGate(floor=0.9)
    images = IMAGES[:32, :2] + 3
    gate.follow(monitor)
    assert (gate.limit, gate.is_open) == (-1, False)
    limits, expected, kept, angle = [], [], (0.0, 0.0), 0.0
    for step, turn in enumerate((0.0, 80.0, 20.0, *[0.0] * 8)):
        angle += turn
        monitor.observe(rotation(images, angle, 1), torch.arange(32), step=step)
        monitor.measure(mean_score)
        gate.follow(monitor)
        limits.append(gate.limit.item())
        if step > 0:  # the mean of the cosines so far, each counting 0.8 of the next
            kept = (0.8 * kept[0] + 1, 0.8 * kept[1] + math.cos(math.radians(turn)))
        expected.append(math.inf if step and kept[1] / kept[0] >= 0.9 else -1)
    assert limits == expected
    assert expected.count(math.inf) == 5


def test_gate__once_open_it_closes_where_the_gradient_misleads():
    gate, monitor = FreshnessGate(), DriftMonitor(2)
    limits = []
    for fidelity in (0.2, 0.5, 0.1, -0.4, -0.4, 0.2, 0.6):
        monitor.up_to.weights.zero_(), monitor.up_to.sums.zero_()
        monitor.up_to.add(7, torch.tensor(10.0), torch.tensor(fidelity))
        gate.follow(monitor)
        limits.append(gate.limit.item())
    assert limits == [-1, math.inf, math.inf, -1, -1, -1, math.inf]


@pytest.mark.parametrize(
    ("fidelities", "limit"),
    [
        ([0.4, 0.6, 0.5, 0.2], 10.0),  # what is older than 10 steps makes it worse
        ([0.4, 0.6, 0.56, 0.2], 20.0),  # 0.04 are noise
        ([0.4, 0.3, 0.2, 0.5], math.inf),  # the whole memory is best
        ([0.4, 0.3, 0.37, 0.36], math.inf),
    ],
)
def test_gate__leaves_out_old_rows_only_where_the_gradient_is_better_without(fidelities, limit):
    monitor, gate = DriftMonitor(2), FreshnessGate()
    for bucket, fidelity in enumerate(fidelities):
        monitor.up_to.add(bucket, torch.tensor(5.0 * 2**bucket), torch.tensor(fidelity))
    gate.follow(monitor)
    assert gate.limit == limit


def test_gate__limit_is_an_age_for_reads():
    bank, gate = tb.MemoryBank(10, 2), FreshnessGate()
    for _ in range(5):
        bank.push(torch.randn(2, 2))
    query = torch.randn(1, 2)
    assert bank.nearest(query, k=10, max_age=gate.limit).valid.sum() == 0
    gate.limit.fill_(2.0)
    assert bank.nearest(query, k=10, max_age=gate.limit).valid.sum() == 6


def test_ages__of_ring_and_keyed_banks_at_steady_state():
    """The oldest row is ceil(M / B) - 1 steps old, the mean about M / (2 B)."""
    capacity, batch = 50, 8
    ring, keyed = tb.MemoryBank(capacity, 2), tb.KeyedMemoryBank(capacity, 2)
    for step in range(200):
        ring.push(torch.ones(batch, 2), step=step)
        keyed.push(torch.ones(batch, 2), keys=(torch.arange(batch) + batch * step) % capacity, step=step)
    for bank in (ring, keyed):
        ages = bank.age().double()
        assert ages.max() == math.ceil(capacity / batch) - 1
        assert abs(ages.mean().item() - capacity / (2 * batch)) < 0.5


def test_state_dict__goes_on_bit_for_bit():
    torch.manual_seed(0)
    noise = torch.randn(20, 16, 6)

    def go_on(monitor, steps):
        for step in steps:
            ids = (torch.arange(16) + 16 * step) % 64
            monitor.observe(IMAGES[ids] + noise[step], ids, step=step, label=ids % 4)
            if step % 3 == 0:
                monitor.measure(pull_own_label)

    straight, first, second = (DriftMonitor(6, instances=64, fields={"label": torch.int64}) for _ in range(3))
    go_on(straight, range(20))
    go_on(first, range(11))
    saved = copy.deepcopy(first.state_dict())
    assert all(isinstance(value, torch.Tensor) for value in saved.values())
    second.load_state_dict(saved)
    go_on(second, range(11, 20))
    torch.testing.assert_close(second.state_dict(), straight.state_dict(), rtol=0, atol=0)


def test_reset__forgets_what_was_counted():
    monitor = watched(lambda images, step: images, 12)
    monitor.measure(mean_score)
    monitor.reset()
    assert len(monitor.by_age().count) == len(monitor.fidelity_by_age().count) == 0
    assert monitor.age_within(fidelity=0.5) == math.inf
    monitor.measure(mean_score)  # the pairs are still there
    assert len(monitor.fidelity_by_age().count) == 1


@pytest.mark.plain
def test_monitor__bad_input():
    monitor = DriftMonitor(3, fields={"label": torch.int64})
    ids = torch.arange(2)
    with pytest.raises(BankStateError, match="make it with instances="):
        monitor.observe(torch.ones(2, 3), ids, step=0, label=ids)
    with pytest.raises(BankKeyError, match="label"):
        monitor.observe_pairs(torch.ones(2, 3), torch.ones(2, 3), ids, ids=ids, step=0)
    bank = tb.MemoryBank(4, 3, fields={"id": torch.int64})
    bank.push(torch.ones(2, 3), id=ids)
    with pytest.raises(BankKeyError, match="the bank has no field 'label'"):
        monitor.observe_rows(bank, lambda rows: rows.embeddings)
    with pytest.raises(BankValueError, match="give batch_size="):
        monitor.recommended_capacity(0.1)
    for words in ({}, {"drift": 0.1, "fidelity": 0.1}, {"drift": 0.0}, {"fidelity": 1.0}):
        with pytest.raises(BankValueError, match="expected a budget of drift above 0, or a fidelity below 1"):
            monitor.age_within(**words)
    with pytest.raises(BankValueError, match="expected a squared distance above 0"):
        monitor.recommended_capacity(0.0, batch_size=3)
    with pytest.raises(BankValueError, match="expected a fidelity between -1"):
        FreshnessGate(floor=1.0)
