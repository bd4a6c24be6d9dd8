"""Which new track is which known identity: one joint decision, in which "none of them" is an answer.

Axes: n (new tracks), m (identities that any of them may be).
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

IMPOSSIBLE = -1e6
"""Worth of a pair that may not be; any number far below the sum of cosines."""

NEW = -1


class Assignment(NamedTuple):
    """One outcome for each new track.

    Attributes:
        choice: ``(n,)`` int64, the column of its identity, or `NEW`.
        margin: ``(n,)`` float64, how much similarity all tracks together lose if this track may not have its choice;
            inf where there is no other. 0 for `NEW`.
    """

    choice: np.ndarray
    margin: np.ndarray


def assign(
    similarities: np.ndarray, rivals: np.ndarray, threshold: float, margin: float, same: np.ndarray | None = None
) -> Assignment:
    """Maximise the summed similarity of all tracks, each identity taken once, "new" worth the threshold.

    A track that has its identity by less than ``margin`` is new instead. The margin is that of the joint decision:
    where two tracks want one identity, it asks what the second-best way to share all identities among them is worth.

    Args:
        similarities: ``(n, m)``; -inf where a track cannot be an identity.
        rivals: ``(n,)`` the best similarity with an identity that the track cannot be; -inf for none.
        threshold: The similarity below which a track is new.
        margin: The least lead of a choice over the second best.
        same: ``(m, m)`` bool, which identities may be one object that was enrolled twice: those are no alternative
            to each other. None for none.

    Returns:
        `Assignment`.
    """
    tracks, columns = similarities.shape
    # Nothing reaches the threshold: the frequent case, without a solver.
    if not (similarities >= threshold).any():
        return Assignment(np.full(tracks, NEW), np.zeros(tracks))
    worth = np.full((tracks, columns + tracks), IMPOSSIBLE)
    worth[:, :columns] = np.where(np.isfinite(similarities), similarities, IMPOSSIBLE)
    # A hair less, so that a similarity of exactly the threshold is a match.
    own = (np.arange(tracks), columns + np.arange(tracks))
    worth[own] = threshold - 1e-9
    total, choice = _solve(worth)
    margins = np.zeros(tracks)
    for track in np.flatnonzero(choice < columns):
        other = worth.copy()
        twins = choice[track] if same is None else np.flatnonzero(same[choice[track]])
        other[track, twins] = IMPOSSIBLE
        other[track, columns + track] = rivals[track] if np.isfinite(rivals[track]) else IMPOSSIBLE
        lead = total - _solve(other)[0]
        margins[track] = lead if lead < -IMPOSSIBLE / 2 else np.inf
    matched = (choice < columns) & (margins >= margin)
    return Assignment(np.where(matched, choice, NEW), margins)


def _solve(worth: np.ndarray) -> tuple[float, np.ndarray]:
    if len(worth) == 1:
        best = int(worth[0].argmax())
        return float(worth[0, best]), np.array([best])
    rows, choice = linear_sum_assignment(worth, maximize=True)
    return float(worth[rows, choice].sum()), choice
