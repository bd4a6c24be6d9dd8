"""Settings of the loop."""

import pytest

from torchbank.errors import BankValueError
from torchbank.training import TrainingConfig


@pytest.mark.parametrize(
    "name",
    ["steps", "classes_per_batch", "images_per_class", "images_per_batch", "accumulate", "learning_rate", "log_every"],
)
@pytest.mark.parametrize("sign", [0, -1])
def test_config__above_zero(name, sign):
    value = sign * 1e-3 if name == "learning_rate" else sign
    with pytest.raises(BankValueError, match=f"{name} is {value}; expected a number above 0"):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize(
    "name", ["seed", "warmup_steps", "local_crops", "evaluate_every", "checkpoint_every", "workers"]
)
def test_config__zero_or_more(name):
    TrainingConfig(**{name: 0})
    with pytest.raises(BankValueError, match=f"{name} is -1; expected 0 or more"):
        TrainingConfig(**{name: -1})


def test_config__not_a_number_is_refused():
    with pytest.raises(BankValueError, match="learning_rate is nan"):
        TrainingConfig(learning_rate=float("nan"))
