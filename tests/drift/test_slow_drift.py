"""Drift over fixed lags against encoders whose drift is known."""

import copy
import math

import pytest
import torch
from known_drift import linear, rotation

from torchbank.drift import SlowDrift
from torchbank.errors import BankValueError


def followed(slow, encode, steps, first=0):
    """What is observed at each step that is due."""
    return {step: slow.observe(encode(step), step=step) for step in range(first, steps) if slow.due(step)}


def test_observe__linear_drift_grows_with_the_square_of_the_lag():
    torch.manual_seed(0)
    images, weight, velocity = torch.randn(16, 5), torch.randn(5, 3), 0.01 * torch.randn(5, 3)
    slow = SlowDrift(16, 3, lags=(2, 10, 30), metric="dot")
    found = followed(slow, lambda step: linear(images, weight, velocity, step), 61)
    expected = (images @ velocity).square().sum(1).mean().item()
    lags = {step: sorted(drift) for step, drift in found.items()}
    assert lags == {0: [], 2: [2], 10: [10], 12: [2], 20: [10], 22: [2], 30: [10, 30], 32: [2], 40: [10, 30],
                    42: [2], 50: [10, 30], 52: [2], 60: [10, 30]}  # fmt: skip
    for drift in found.values():
        for lag, value in drift.items():
            assert value.item() == pytest.approx(lag**2 * expected, rel=1e-3)


def test_observe__a_rotation_on_the_sphere():
    slow = SlowDrift(1, 2, lags=(1, 5))
    found = followed(slow, lambda step: (step + 1) * rotation(torch.tensor([[1.0, 0.0]]), 7.0, step), 11)
    for drift in found.values():
        for lag, value in drift.items():
            assert value.item() == pytest.approx(2 - 2 * math.cos(math.radians(7 * lag)), rel=1e-4)


def test_observe__a_frozen_encoder_does_not_drift():
    slow, fixed = SlowDrift(4, 3), torch.randn(4, 3)
    found = followed(slow, lambda step: fixed, 1_101)
    assert found[1_100].keys() == {100, 1_000}
    assert all(value == 0 for drift in found.values() for value in drift.values())


def test_observe__what_was_missed_is_not_compared():
    slow = SlowDrift(2, 2, lags=(1, 4, 8))
    followed(slow, lambda step: torch.ones(2, 2), 6)
    assert followed(slow, lambda step: torch.ones(2, 2), 14, first=12) == {12: {8: 0}, 13: {1: 0}}


def test_state_dict__goes_on_bit_for_bit():
    torch.manual_seed(0)
    seen = torch.randn(60, 3, 2)
    straight, first, second = (SlowDrift(3, 2, lags=(2, 10, 20)) for _ in range(3))
    expected = followed(straight, lambda step: seen[step], 60)
    followed(first, lambda step: seen[step], 25)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    rest = followed(second, lambda step: seen[step], 60, first=25)
    assert rest == {step: drift for step, drift in expected.items() if step >= 25}


@pytest.mark.plain
@pytest.mark.parametrize("lags", [(10,), (0, 10), (10, 5), (10, 100, 150), (3, 10, 30, 20)])
def test_lags__that_do_not_fit(lags):
    with pytest.raises(BankValueError, match="expected two or more, ascending"):
        SlowDrift(2, 2, lags=lags)


@pytest.mark.plain
def test_observe__another_set_is_refused():
    with pytest.raises(BankValueError, match=r"expected \(4, 2\), one row for each image"):
        SlowDrift(4, 2).observe(torch.ones(3, 2), step=0)
