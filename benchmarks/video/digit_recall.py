"""A digit must be told long after it was seen: a bar stood beside each of four, and the last clip shows one bar.

Digits are the 8 x 8 pictures that come with scikit-learn (1,797 of them), twice as large; films to learn from and films
to be asked have different ones. Half of all other clips show a digit without a bar, which nobody will ask for.
"""

import numpy as np

from .films import CLIPS, FARTHEST, NEAREST, SECONDS, SIDE, Films, Task, blank, filmed, walk

BARS, DIGITS = 4, 10
TASK = Task("digit recall", (DIGITS,), (1 + BARS, 1 + DIGITS), 1 / DIGITS, 800)
LEARNED_FROM = 1_400
"""Of the digits; the rest is in films to be asked."""
IDLE = 0.5


def make(seed: int, count: int, *, asked: bool) -> Films:
    """So many films; the same seed gives the same.

    Args:
        seed: Which.
        count: Films.
        asked: Whether they are not to be learned from.

    Raises:
        SystemExit: scikit-learn is not installed.
    """
    random = np.random.default_rng(seed)
    pictures, numbers = _digits(asked)
    bars = np.zeros((count, CLIPS), dtype=np.int64)
    shows = random.random((count, CLIPS)) < IDLE
    gaps = np.stack([random.permutation(np.arange(NEAREST, FARTHEST + 1))[:BARS] for _ in range(count)])
    rows = np.arange(count)[:, None]
    bars[rows, CLIPS - 1 - gaps] = 1 + np.arange(BARS)
    shows |= bars > 0
    shows[:, -1] = False
    chosen = random.integers(0, len(numbers), (count, CLIPS))
    digits = np.where(shows, 1 + numbers[chosen], 0)
    wanted = random.integers(0, BARS, count)
    bars[:, -1] = 1 + wanted
    films = blank(count)
    steps = random.integers(-1, 2, (int(shows.sum()), 2))
    films[shows] = walk(random, films[shows], pictures[chosen[shows]], steps)
    for bar, edge in enumerate((np.s_[:2], np.s_[-2:], np.s_[:, :2], np.s_[:, -2:]), start=1):
        mask = np.zeros((SIDE, SIDE), dtype=np.float32)
        mask[edge] = 1
        films[bars == bar] = np.maximum(films[bars == bar], mask)
    row = rows[:, 0]
    targets = digits[row, CLIPS - 1 - gaps[row, wanted]][:, None] - 1
    lags = SECONDS * gaps[row, wanted]
    return Films(filmed(random, films), np.stack([bars, digits], axis=2), targets, lags, {})


def _digits(asked: bool) -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        msg = "digit recall needs scikit-learn for its digits; pip install scikit-learn"
        raise SystemExit(msg) from error
    pictures, numbers = load_digits(return_X_y=True)
    part = slice(LEARNED_FROM, None) if asked else slice(LEARNED_FROM)
    large = pictures.reshape(-1, 8, 8)[part].repeat(2, axis=1).repeat(2, axis=2)
    return large.astype(np.float32) / 16, numbers[part]
