"""How much boxes overlap."""

import numpy as np
from jaxtyping import Float

__all__ = ["overlaps"]


def overlaps(first: Float[np.ndarray, "n 4"], second: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union of each box with each other one.

    Args:
        first: ``(n, 4)`` x1, y1, x2, y2.
        second: ``(m, 4)``.

    Returns:
        ``(n, m)`` in [0, 1]; 0 where both boxes are empty.

    Example:
        >>> overlaps(np.array([[0.0, 0.0, 10.0, 10.0]]), np.array([[0.0, 0.0, 10.0, 5.0], [10.0, 0.0, 20.0, 10.0]]))
        array([[0.5, 0. ]])
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
