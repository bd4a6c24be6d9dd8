"""Semantic drift compensation: its formula, what it assumes, and points that are far away."""

import copy

import pytest
import torch

import torchbank as tb
from torchbank.drift import LocalDrift, RevisitDrift, compensate
from torchbank.errors import BankValueError


def test_compensate__is_the_weighted_mean_drift():
    torch.manual_seed(0)
    rows, before, after = (torch.randn(n, 3, dtype=torch.float64) for n in (7, 20, 20))
    weights = (-torch.cdist(rows, before).square() / (2 * 0.8**2)).exp()
    expected = rows + weights @ (after - before) / weights.sum(1, keepdim=True)
    torch.testing.assert_close(compensate(rows, before, after, bandwidth=0.8), expected)


def test_compensate__far_away_points_are_no_nan():
    before = torch.tensor([[1e3, 0.0], [1e3, 30.0]])
    moved = compensate(torch.zeros(1, 2), before, before + torch.tensor([[1.0, 0.0], [0.0, 5.0]]), bandwidth=0.01)
    assert moved.tolist() == [[1.0, 0.0]]  # all of the nearest, though exp(-1e10 / 2) is 0


@pytest.mark.parametrize("bandwidth", [0.05, 10.0])
def test_correction__is_exact_for_a_shift_of_all_rows(bandwidth):
    torch.manual_seed(0)
    record, correction = RevisitDrift(60, 4, metric="dot"), LocalDrift(4, bandwidth=bandwidth)
    bank = tb.MemoryBank(20, 4, metric="dot")
    first, velocity = torch.randn(80, 4), torch.randn(4)
    for step, ids in ((0, slice(0, 40)), (3, slice(60, 80)), (10, slice(0, 40))):
        now = first[ids] + step * velocity
        if step == 3:
            bank.push(now, step=step)  # rows that never come up again
        else:
            correction.observe(record.revisits(now, torch.arange(80)[ids], step), step=step)
    # The pairs are 10 steps apart and the rows 7 steps old: they have gone 7 tenths of the way.
    torch.testing.assert_close(correction(bank.view()), first[60:] + 10 * velocity, rtol=1e-4, atol=1e-4)


def test_correction__new_rows_and_old_pairs():
    correction = LocalDrift(2, bandwidth=1.0)
    record = RevisitDrift(1, 2, metric="dot")
    for step in (0, 5):
        correction.observe(record.revisits(torch.tensor([[float(step), 0.0]]), torch.tensor([0]), step), step=step)
    bank = tb.MemoryBank(3, 2, metric="dot")
    for step in (-20, 5):  # older than the pair, and of now
        bank.push(torch.ones(1, 2), step=step)
    assert correction(bank.view()).tolist() == [[6.0, 1.0], [1.0, 1.0]]


def test_correction__without_pairs_changes_nothing():
    correction, bank = LocalDrift(3), tb.MemoryBank(5, 3)
    bank.push(torch.randn(5, 3))
    assert torch.equal(correction(bank.view()), bank.view().embeddings)
    record = RevisitDrift(5, 3)
    correction.observe(record.revisits(torch.randn(5, 3), torch.arange(5), 0), step=0)  # all for the first time
    assert torch.equal(correction(bank.view()), bank.view().embeddings)


def test_correction__in_blocks_is_the_same(monkeypatch):
    torch.manual_seed(0)
    record, correction, bank = RevisitDrift(30, 3), LocalDrift(3, pairs=20), tb.MemoryBank(50, 3)
    for step in range(4):
        correction.observe(record.revisits(torch.randn(30, 3), torch.arange(30), step), step=step)
        bank.push(torch.randn(15, 3), step=step)
    whole = correction(bank.view())
    monkeypatch.setattr("torchbank.drift._local_drift._WEIGHTS_A_BLOCK", 60)
    torch.testing.assert_close(correction(bank.view()), whole)
    assert not torch.allclose(whole, bank.view().embeddings)


def test_state_dict__goes_on_bit_for_bit():
    record, straight, other = RevisitDrift(6, 2), LocalDrift(2, pairs=4), LocalDrift(2, pairs=4)
    found = [record.revisits(torch.randn(6, 2), torch.arange(6), step) for step in range(4)]
    for step, revisits in enumerate(found):
        straight.observe(revisits, step=step)
    other.load_state_dict(copy.deepcopy(straight.state_dict()))
    bank = tb.MemoryBank(5, 2)
    bank.push(torch.randn(5, 2))
    assert torch.equal(straight(bank.view()), other(bank.view()))


@pytest.mark.plain
def test_bandwidth__out_of_range():
    with pytest.raises(BankValueError, match="expected a distance above 0"):
        LocalDrift(3, bandwidth=0.0)
    with pytest.raises(BankValueError, match="expected a distance above 0"):
        compensate(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2), bandwidth=-1.0)
