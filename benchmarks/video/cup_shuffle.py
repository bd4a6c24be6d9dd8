"""Where is the ball? It was put under one of three cups 10 to 120 s ago, and the cups have moved since.

The cups (square, disc, cross) move about nine places. A cup is lifted now and then, with nothing under it; once, a
ball is there and is covered. The last clip asks for the ball's place: that of the cup. After the containment tasks of
[Girdhar and Ramanan 2020](arXiv:1910.04744).
"""

import numpy as np

from .films import CLIPS, FRAMES, SECONDS, SPRITES, Films, Task, blank, filmed, lags, stamp

CUPS, PLACES = 3, 3
CELL = 8
MOVE, LIFT = 0.3, 0.2
TASK = Task("cup shuffle", (PLACES, PLACES), (1 + CUPS,) + (PLACES, PLACES) * CUPS, 1 / CUPS, 400)
BALL = np.ones((2, 2), dtype=np.float32)


def make(seed: int, count: int) -> Films:
    """So many films; the same seed gives the same."""
    random = np.random.default_rng(seed)
    gaps, rows = lags(random, count), np.arange(count)
    places = _shuffle(random, count)
    hidden = np.zeros((count, CLIPS), dtype=np.int64)
    hidden[rows, CLIPS - 1 - gaps] = random.integers(1, 1 + CUPS, count)
    lifted = np.where(random.random(hidden.shape) < LIFT, random.integers(1, 1 + CUPS, hidden.shape), 0)
    lifted = np.where(hidden > 0, hidden, lifted)
    films = blank(count)
    before = np.concatenate([places[:, :1], places[:, :-1]], axis=1)
    for cup in range(CUPS):
        for frame in range(FRAMES):
            # A cup is lifted first and moved then.
            early = frame < FRAMES // 2
            ys, xs = np.divmod((before if early else places)[..., cup], PLACES)
            raised = 2 * ((lifted == cup + 1) & early)
            _draw(films[:, :, frame], SPRITES[cup], CELL * ys + 2 - raised, CELL * xs + 1)
            if early:
                seen = hidden == cup + 1
                _draw(films[:, :, frame], BALL, CELL * ys + 6, CELL * xs + 3, where=seen)
    answers, seen_at = (np.stack(np.divmod(at, PLACES), axis=1) for at in _answers(places, before, hidden, gaps))
    cells = np.stack(np.divmod(places, PLACES), axis=3).reshape(count, CLIPS, 2 * CUPS)
    labels = np.concatenate([hidden[..., None], cells], axis=2)
    return Films(filmed(random, films), labels, answers, SECONDS * gaps, {"last visible place": seen_at})


def _shuffle(random: np.random.Generator, count: int) -> np.ndarray:
    """Places ``(n, t, cups)`` from 0 to 8 at the end of each clip; one cup at most moves in a clip, to a free place."""
    now = np.stack([random.permutation(PLACES**2) for _ in range(count)])
    places = np.empty((count, CLIPS, CUPS), dtype=np.int64)
    rows = np.arange(count)
    for clip in range(CLIPS):
        # `now` is a permutation of the nine places, of which the first three are the cups'.
        cup, free = random.integers(0, CUPS, count), random.integers(CUPS, PLACES**2, count)
        moves = random.random(count) < MOVE
        taken, left = now[rows, free], now[rows, cup]
        now[rows, cup] = np.where(moves, taken, left)
        now[rows, free] = np.where(moves, left, taken)
        places[:, clip] = now[:, :CUPS]
    return places


def _answers(
    places: np.ndarray, before: np.ndarray, hidden: np.ndarray, gaps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where the ball is at the end, and where it was last seen."""
    rows = np.arange(len(places))
    clip = CLIPS - 1 - gaps
    cup = hidden[rows, clip] - 1
    return places[rows, -1, cup], before[rows, clip, cup]


def _draw(
    frames: np.ndarray, picture: np.ndarray, tops: np.ndarray, lefts: np.ndarray, *, where: np.ndarray | None = None
) -> None:
    """One picture on each frame of ``(n, t, h, w)``."""
    where = np.ones(tops.shape, dtype=bool) if where is None else where
    pictures = np.broadcast_to(picture, (int(where.sum()), *picture.shape))
    frames[where] = stamp(frames[where], pictures, tops[where], lefts[where])
