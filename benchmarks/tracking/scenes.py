"""Scenes in which people leave and come back: boxes, embeddings and the truth, made from a seed.

A person walks through the picture for a visit, is gone for an absence longer than a tracker waits, and returns at a
random place. An embedding is the person's own vector, shifted anew at each visit (light, pose), moved by a slow
drift, with noise in each frame; people of one team are alike.
"""

from dataclasses import dataclass, replace

import numpy as np

from torchbank.evaluation import Tracks

WIDTH, HEIGHT, DIM = 1920.0, 1080.0, 128


@dataclass(frozen=True)
class Kind:
    """How scenes of a name are made.

    Args:
        name: What it is called.
        people: How many there are in all.
        frames: The length.
        visit: Frames of a visit, least and most.
        absence: Frames between two visits, least and most.
        once: Part of the people who come once only, so that a memory must say "new".
        teams: People are split into so many teams of look-alikes; 0 is none.
        likeness: Cosine of two people of a team.
        noise: Length of the noise of each frame, beside an appearance of length 1.
        shift: Length of the change of each visit.
        drift: Length of the change over 1,000 frames, going on in the same direction at random.
        missing: Part of the embeddings that are not there (NaN).
        bad: Part of the embeddings that are somebody else's.
        unseen: Part of the boxes that the detector misses.
        jitter: Noise of the corners, relative to the height.
        ghosts: False boxes in a frame, on average.
        embeddings: "appearance", or what cannot help: "random" (each row its own) or "constant"; or "perfect".
    """

    name: str
    people: int = 24
    frames: int = 2400
    visit: tuple[int, int] = (80, 240)
    absence: tuple[int, int] = (60, 600)
    once: float = 0.0
    teams: int = 0
    likeness: float = 0.0
    noise: float = 0.4
    shift: float = 0.25
    drift: float = 0.0
    missing: float = 0.0
    bad: float = 0.0
    unseen: float = 0.0
    jitter: float = 0.0
    ghosts: float = 0.0
    embeddings: str = "appearance"


EASY = Kind("easy")
HARD = Kind(
    "hard",
    people=48,
    frames=4500,
    absence=(60, 2400),
    once=0.5,
    teams=4,
    likeness=0.85,
    noise=0.8,
    shift=0.3,
    drift=0.1,
)
KINDS = {
    kind.name: kind
    for kind in (
        EASY,
        HARD,
        replace(EASY, name="drift", drift=0.4),
        replace(HARD, name="missing", missing=0.4),
        replace(HARD, name="bad", bad=0.1),
        replace(HARD, name="detector", unseen=0.08, jitter=0.03, ghosts=0.5),
        replace(EASY, name="open set", people=60, once=1.0),
        replace(HARD, name="perfect", embeddings="perfect"),
        replace(EASY, name="random", embeddings="random"),
        replace(HARD, name="hard random", embeddings="random"),
        replace(EASY, name="constant", embeddings="constant"),
    )
}


@dataclass(frozen=True)
class Scene:
    """Detections in time order, and the truth.

    Attributes:
        kind: How it was made.
        truth: Every person in every frame.
        frames: ``(n,)``, ascending.
        boxes: ``(n, 4)``.
        scores: ``(n,)``.
        embeddings: ``(n, DIM)`` float32.
        people: ``(n,)``, the person in each box; -1 is a ghost. For analysis only.
    """

    kind: Kind
    truth: Tracks
    frames: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    embeddings: np.ndarray
    people: np.ndarray

    def of_frame(self, frame: int) -> slice:
        """The detections of a frame."""
        return slice(*np.searchsorted(self.frames, [frame, frame + 1]).tolist())


def make(kind: Kind, seed: int) -> Scene:
    """The scene of a seed."""
    random = np.random.default_rng((seed, 20_26))
    looks = _looks(kind, random)
    rows: list[tuple[np.ndarray, ...]] = []
    for person in range(kind.people):
        drift = _unit(random.normal(size=DIM))
        for begin, end in _visits(kind, random, returns=person >= round(kind.once * kind.people)):
            frames = np.arange(begin, end)
            boxes = _walk(random, len(frames))
            shift = kind.shift * _unit(random.normal(size=DIM))
            appearance = looks[person] + shift + kind.drift * frames[:, None] / 1000 * drift
            rows.append((frames, np.full(len(frames), person), boxes, appearance))
    frames, people, boxes, appearance = (np.concatenate(column) for column in zip(*rows, strict=True))
    order = np.lexsort((people, frames))
    truth = Tracks(frames[order], people[order], boxes[order])
    return _detect(kind, truth, appearance[order], looks, random)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _looks(kind: Kind, random: np.random.Generator) -> np.ndarray:
    own = _unit(random.normal(size=(kind.people, DIM)))
    if not kind.teams:
        return own
    team = _unit(random.normal(size=(kind.teams, DIM)))[random.permutation(kind.people) % kind.teams]
    return _unit(kind.likeness**0.5 * team + (1 - kind.likeness) ** 0.5 * own)


def _visits(kind: Kind, random: np.random.Generator, *, returns: bool) -> list[tuple[int, int]]:
    visits, frame = [], int(random.integers(0, kind.frames // 2 if returns else kind.frames - kind.visit[1]))
    while frame < kind.frames - kind.visit[0] // 2:
        end = min(kind.frames, frame + int(random.integers(*kind.visit)))
        visits.append((frame, end))
        if not returns:
            break
        frame = end + int(random.integers(*kind.absence))
    return visits


def _walk(random: np.random.Generator, frames: int) -> np.ndarray:
    """Boxes of somebody who turns slowly and stays in the picture."""
    height = random.uniform(120, 200)
    size = np.array([0.4 * height, height])
    room = np.array([WIDTH, HEIGHT]) - size
    heading = random.uniform(0, 2 * np.pi) + np.cumsum(random.normal(0, 0.04, frames))
    steps = random.uniform(1, 4) * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    place = random.uniform(0, 1, 2) * room + np.cumsum(steps, axis=0)
    # Reflected at the borders.
    corner = room - np.abs(np.mod(place, 2 * room) - room)
    return np.concatenate([corner, corner + size], axis=1)


def _detect(kind: Kind, truth: Tracks, appearance: np.ndarray, looks: np.ndarray, random: np.random.Generator) -> Scene:
    seen = random.random(len(truth.frames)) >= kind.unseen
    frames, people, boxes = (column[seen] for column in truth)
    boxes = boxes + kind.jitter * (boxes[:, 3:] - boxes[:, 1:2]) * random.normal(size=boxes.shape)
    embeddings = appearance[seen]
    swapped = random.random(len(frames)) < kind.bad
    embeddings[swapped] = looks[random.integers(0, len(looks), swapped.sum())]
    ghosts = random.poisson(kind.ghosts, kind.frames)
    ghost_frames = np.repeat(np.arange(kind.frames), ghosts)
    ghost_boxes = np.concatenate([_walk(random, 1) for _ in ghost_frames] or [np.zeros((0, 4))])
    ghost_embeddings = _unit(random.normal(size=(len(ghost_frames), DIM)))
    embeddings = np.concatenate([embeddings, ghost_embeddings])
    embeddings = embeddings + kind.noise * _unit(random.normal(size=embeddings.shape))
    frames = np.concatenate([frames, ghost_frames])
    people = np.concatenate([people, np.full(len(ghost_frames), -1)])
    match kind.embeddings:
        case "random":
            embeddings = random.normal(size=embeddings.shape)
        case "constant":
            embeddings = np.ones_like(embeddings)
        case "perfect":
            embeddings = np.eye(DIM)[np.where(people >= 0, people, random.integers(len(looks), DIM, len(people)))]
    embeddings[random.random(len(frames)) < kind.missing] = np.nan
    order = np.argsort(frames, kind="stable")
    scores = np.where(people >= 0, random.uniform(0.75, 0.99, len(frames)), random.uniform(0.3, 0.8, len(frames)))
    boxes = np.concatenate([boxes, ghost_boxes])
    columns = (frames, boxes, scores, _unit(embeddings).astype(np.float32), people)
    return Scene(kind, truth, *(column[order] for column in columns))
