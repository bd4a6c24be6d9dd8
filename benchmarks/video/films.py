"""What the generators of films share: the form of a film, a few sprites, and how to draw many at once.

Axes: films n, clips t, frames f of a clip, height and width h and w, heads of an answer.
"""

from typing import NamedTuple

import numpy as np

SIDE, FRAMES, CLIPS = 24, 4, 52
SECONDS = 2.5
"""Of a clip, four frames; a film is 130 s."""
NEAREST, FARTHEST = 4, 48
"""Clips between what must be remembered and the question: 10 to 120 s."""
NOISE = 12.0


class Films(NamedTuple):
    """Films that each end with a question.

    Attributes:
        clips: ``(n, t, f, h, w)`` uint8.
        labels: ``(n, t, heads)`` int64, what a clip shows; the first head's 0 is "nothing that matters".
        targets: ``(n, heads)`` int64, the answer; it is right where all heads are.
        lags: ``(n,)`` seconds between what must be remembered and the question.
        guesses: By name, ``(n, heads)`` answers of a rule of thumb that a memory must beat.
    """

    clips: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    lags: np.ndarray
    guesses: dict[str, np.ndarray]


class Task(NamedTuple):
    """A kind of films.

    Attributes:
        title: What the page calls it.
        classes: Of each head of the answer.
        clip_classes: Of each head of a clip's labels.
        chance: Accuracy of who sees the last clip only and is right about it, and guesses the rest.
        steps: For which the clip model is trained.
    """

    title: str
    classes: tuple[int, ...]
    clip_classes: tuple[int, ...]
    chance: float
    steps: int


SPRITES = np.array(
    [
        [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]],
        [[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0]],
        [[0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]],
    ],
    dtype=np.float32,
)
"""A square, a disc and a cross."""


def lags(random: np.random.Generator, count: int) -> np.ndarray:
    """Clips, as many short ones as long ones."""
    return random.permutation(np.linspace(NEAREST, FARTHEST, count).round().astype(int))


def blank(count: int) -> np.ndarray:
    """Black films to draw on, float32."""
    return np.zeros((count, CLIPS, FRAMES, SIDE, SIDE), dtype=np.float32)


def stamp(frames: np.ndarray, pictures: np.ndarray, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
    """Frames with a picture on each.

    Args:
        frames: ``(k, h, w)``.
        pictures: ``(k, p, p)`` in [0, 1].
        tops: ``(k,)``.
        lefts: ``(k,)``.
    """
    size = pictures.shape[-1]
    rows = np.arange(len(frames))[:, None, None]
    ys = tops[:, None, None] + np.arange(size)[None, :, None]
    xs = lefts[:, None, None] + np.arange(size)[None, None, :]
    frames[rows, ys, xs] = np.maximum(frames[rows, ys, xs], pictures)
    return frames


def walk(random: np.random.Generator, clips: np.ndarray, pictures: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Clips through which a picture walks, from a random place from which it stays inside.

    Args:
        random: Where.
        clips: ``(k, f, h, w)``.
        pictures: ``(k, p, p)``.
        steps: ``(k, 2)`` pixels down and right from a frame to the next.
    """
    room, way = SIDE - pictures.shape[-1], (FRAMES - 1) * steps
    low, high = np.maximum(0, -way), room - np.maximum(0, way)
    start = random.integers(low, high + 1)
    for frame in range(FRAMES):
        tops, lefts = (start + frame * steps).T
        clips[:, frame] = stamp(clips[:, frame], pictures, tops, lefts)
    return clips


def filmed(random: np.random.Generator, drawn: np.ndarray) -> np.ndarray:
    """The films as a camera with noise takes them, uint8."""
    taken = np.empty(drawn.shape, dtype=np.uint8)
    for film, picture in zip(taken, drawn, strict=True):
        noise = random.standard_normal(picture.shape, dtype=np.float32)
        film[:] = (200 * picture + NOISE * noise + 25).clip(0, 255)
    return taken
