"""At which age a curve passes a level: what a budget of drift, or a floor of fidelity, allows."""

import math

from jaxtyping import Float
from torch import Tensor

from torchbank.errors import BankValueError


def recommended_capacity(
    ages: Float[Tensor, " ages"], drift: Float[Tensor, " ages"], *, budget: float, batch_size: int
) -> int | None:
    """The rows of a first-in, first-out memory whose oldest row stays within a budget of drift.

    Of capacity M and batch size B the oldest row is ``ceil(M / B) - 1`` steps old, the mean about ``M / (2 B)``.

    Args:
        ages: ``(ages,)``, ascending.
        drift: ``(ages,)``, their mean squared distance.
        budget: In squared distance, above 0.
        batch_size: Rows that a step pushes.

    Returns:
        Rows, or None where no age passes the budget.

    Raises:
        BankValueError: The budget or the batch size is not above 0.

    Example:
        >>> import torch
        >>> from torchbank.drift import recommended_capacity
        >>> recommended_capacity(torch.tensor([10.0, 20.0]), torch.tensor([0.1, 0.3]), budget=0.25, batch_size=64)
        1152
    """
    if not budget > 0 or batch_size < 1:
        msg = f"budget={budget}, batch_size={batch_size}; expected a squared distance above 0, and 1 row or more"
        raise BankValueError(msg)
    age = age_at_level(ages, drift, budget, start=0.0)
    return None if age == math.inf else (math.floor(age) + 1) * batch_size


def age_at_level(ages: Float[Tensor, " ages"], values: Float[Tensor, " ages"], level: float, *, start: float) -> float:
    """The first age at which a curve reaches a level, linear between its points and from ``start`` at age 0.

    Args:
        ages: ``(ages,)`` above 0, ascending; an age of 0 is left out, for ``start`` stands there.
        values: ``(ages,)``.
        level: Above ``start`` for a curve that rises, below it for one that falls.
        start: The value at age 0.

    Returns:
        The age, infinite if the level is not reached at any of the ages.
    """
    ages, values = ages.double(), values.double()
    later = ages > 0
    points = zip(ages[later].tolist(), values[later].tolist(), strict=True)
    before, low = 0.0, start
    rising = level > start
    for age, value in points:
        if (value >= level) if rising else (value <= level):
            share = (level - low) / (value - low) if value != low else 0.0
            return before + share * (age - before)
        before, low = age, value
    return math.inf
