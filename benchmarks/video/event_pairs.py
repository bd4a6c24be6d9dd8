"""An action is a pair of events that lie 10 to 120 s apart: a sprite walks by, and much later another one.

An event is a sprite (square, disc, cross) that walks right or down. Nearly all other clips show nothing, or a sprite
that stands still, which is no event. The last clip is the second event; the question is which pair it was.
"""

import numpy as np

from .films import CLIPS, SECONDS, SPRITES, Films, Task, blank, filmed, lags, walk

KINDS = 6
TASK = Task("event pairs", (KINDS, KINDS), (1 + KINDS,), 1 / KINDS, 300)
STANDING = 0.5
SPEED = 4


def make(seed: int, count: int) -> Films:
    """So many films; the same seed gives the same."""
    random = np.random.default_rng(seed)
    gaps, rows = lags(random, count), np.arange(count)
    events = np.zeros((count, CLIPS), dtype=np.int64)
    events[rows, CLIPS - 1 - gaps] = random.integers(1, 1 + KINDS, count)
    events[:, -1] = random.integers(1, 1 + KINDS, count)
    films = blank(count)
    happens = events > 0
    stands = ~happens & (random.random(events.shape) < STANDING)
    sprites, downwards = np.divmod(events[happens] - 1, 2)
    steps = np.where(downwards[:, None] > 0, [SPEED, 0], [0, SPEED])
    films[happens] = walk(random, films[happens], SPRITES[sprites], steps)
    still = random.integers(0, len(SPRITES), int(stands.sum()))
    films[stands] = walk(random, films[stands], SPRITES[still], np.zeros((len(still), 2), dtype=int))
    targets = np.stack([events[rows, CLIPS - 1 - gaps], events[:, -1]], axis=1) - 1
    return Films(filmed(random, films), events[..., None], targets, SECONDS * gaps, {})
