"""Times of steps; nothing here waits or asserts how long something took."""

import pytest

from torchbank.training import StepClock


def test_clock__before_the_first_window_is_zero():
    clock = StepClock()
    assert (clock.milliseconds_per_step(), clock.steps_per_second(), clock.seconds) == (0, 0, 0)


def test_clock__windows_and_rates_agree():
    clock = StepClock()
    clock.start()
    sum(range(10_000))
    clock.lap(steps=4)
    assert clock.steps_per_second() * clock.seconds == pytest.approx(4)
    assert clock.milliseconds_per_step() == 1_000 * clock.seconds / 4


def test_clock__paused_time_is_not_counted():
    clock = StepClock()
    clock.start()
    clock.pause()
    clock.lap(steps=1)
    counted = clock.seconds
    with clock.paused():
        sum(range(10_000))
    clock.lap(steps=1)
    assert clock.seconds == counted


def test_clock__state_goes_on():
    clock = StepClock()
    clock.start()
    clock.lap(steps=2)
    other = StepClock()
    other.load_state_dict(clock.state_dict())
    assert other.state_dict() == clock.state_dict()
