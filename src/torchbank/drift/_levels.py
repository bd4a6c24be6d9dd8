"""At which age a curve passes a level: what a budget of drift, or a floor of fidelity, allows."""

import math

from jaxtyping import Float
from torch import Tensor


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
