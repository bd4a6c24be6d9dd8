"""Moment matching: exact for what it assumes, and its filter against the scalar Kalman filter."""

import copy
import math

import pytest
import torch
from known_drift import affine
from torch.nn.functional import normalize

import torchbank as tb
from torchbank.drift import MomentMatching
from torchbank.errors import BankValueError


def full_bank(rows, metric="dot", capacity=None):
    bank = tb.MemoryBank(capacity or len(rows), rows.shape[1], metric=metric)
    bank.push(rows)
    return bank


@pytest.mark.parametrize("noise_ratio", [math.inf, 0.01])
def test_correction__is_exact_for_an_affine_drift(noise_ratio):
    torch.manual_seed(0)
    then, scale, shift = torch.randn(500, 6), torch.rand(6), torch.randn(6)
    bank, correction = full_bank(then), MomentMatching(6, noise_ratio=noise_ratio)
    now = affine(then, scale, shift, 10)
    correction.observe(now)  # the first batch is taken at its word, filtered or not
    torch.testing.assert_close(correction(bank.view()), now, rtol=1e-4, atol=1e-3)
    readout, fresh = bank.transformed(correction), tb.Rows(now)
    queries = torch.randn(4, 6)
    torch.testing.assert_close(
        readout.attend(queries, scale=0.1), fresh.attend(queries, scale=0.1), rtol=1e-3, atol=1e-3
    )


def test_correction__of_unit_rows_is_of_unit_length():
    torch.manual_seed(0)
    rows = normalize(torch.randn(50, 4), dim=1)
    correction = MomentMatching(4)
    correction.observe(normalize(rows * torch.tensor([3.0, 1.0, 1.0, 1.0]) + 1, dim=1))
    corrected = full_bank(rows, "cosine").transformed(correction)
    nearest = corrected.nearest(normalize(correction(full_bank(rows).view()), dim=1), k=1)
    torch.testing.assert_close(nearest.scores[:, 0], torch.ones(50))
    assert nearest.slots[:, 0].tolist() == list(range(50))


def test_correction__looks_at_the_rows_there_are():
    torch.manual_seed(0)
    rows = torch.randn(30, 3)
    correction = MomentMatching(3)
    correction.observe(2 * rows + 1)
    expected = correction(full_bank(rows).view())
    keyed = tb.KeyedMemoryBank(90, 3, metric="dot")
    keyed.push(rows, keys=torch.arange(30) * 3)
    torch.testing.assert_close(correction(keyed.view())[::3], expected)


def test_correction__before_anything_was_seen_changes_nothing():
    rows = torch.randn(20, 3)
    correction = MomentMatching(3)
    correction.observe(torch.randn(1, 3))  # one row has no deviation
    assert torch.equal(correction(full_bank(rows).view()), rows)


def test_correction__of_a_dim_without_variance_moves_it():
    rows = torch.tensor([[1.0, 0.0], [1.0, 2.0]])
    correction = MomentMatching(2)
    correction.observe(torch.tensor([[5.0, 1.0], [7.0, 5.0]]))
    assert correction(full_bank(rows).view()).tolist() == [[6.0, 1.0], [6.0, 5.0]]


def test_filter__is_the_scalar_kalman_filter():
    """Predict p + q; gain k = p / (p + r); x + k (z - x); p (1 - k)."""
    torch.manual_seed(0)
    noise, measured = 0.3, 1.7  # only their ratio matters
    correction = MomentMatching(2, noise_ratio=noise / measured)
    p, mean, deviation = math.inf, torch.zeros(2), torch.zeros(2)
    for _ in range(20):
        batch = torch.randn(8, 2) * 3
        correction.observe(batch)
        ahead = p + noise
        k = 1.0 if p == math.inf else ahead / (ahead + measured)
        p = measured if p == math.inf else (1 - k) * ahead
        mean = mean + k * (batch.mean(0) - mean)
        deviation = deviation + k * (batch.std(0, correction=0) - deviation)
        assert correction.gain.item() == pytest.approx(k)
    torch.testing.assert_close(correction.mean, mean)
    torch.testing.assert_close(correction.deviation, deviation)


@pytest.mark.parametrize("noise_ratio", [1e-4, 0.01, 0.5, 20.0])
def test_filter__gain_goes_to_its_closed_form(noise_ratio):
    correction, batch = MomentMatching(1, noise_ratio=noise_ratio), torch.tensor([[0.0], [1.0]])
    for _ in range(1_000):
        correction.observe(batch)
    expected = (-noise_ratio + math.sqrt(noise_ratio**2 + 4 * noise_ratio)) / 2
    assert correction.gain.item() == pytest.approx(expected, rel=1e-6)


def test_state_dict__goes_on_bit_for_bit():
    batches = torch.randn(10, 8, 3)
    straight, first, second = (MomentMatching(3, noise_ratio=0.1) for _ in range(3))
    for batch in batches:
        straight.observe(batch)
    for batch in batches[:4]:
        first.observe(batch)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for batch in batches[4:]:
        second.observe(batch)
    torch.testing.assert_close(second.state_dict(), straight.state_dict(), rtol=0, atol=0)


@pytest.mark.plain
@pytest.mark.parametrize("noise_ratio", [0.0, -1.0, math.nan])
def test_noise_ratio__out_of_range(noise_ratio):
    with pytest.raises(BankValueError, match="expected a number above 0"):
        MomentMatching(3, noise_ratio=noise_ratio)
