"""Who remembers: windows, a GRU, and a memory of each rule, all with the same bytes unless they say otherwise.

Each turns the past of a film and its last clip into a context ``(b, DIM)``; what learns is trained by `read_out`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torchbank import video

from .clip_model import DIM, Seen
from .films import SECONDS

CAPACITY = 8
"""Rows of every memory; a GRU has a state of as many numbers."""
WINDOW = 4
"""Clips that the model alone sees, with the last one: 10 s, as long as the shortest lag."""
SHARPNESS = 12.0
"""Scale of the attention of all contestants, between a learned query and rows of length 1."""

Memory = video.TemporalMemory
Rules = Callable[[float], dict]


@dataclass(frozen=True)
class Contestant:
    """A row of the table.

    Args:
        title: What the page calls it.
        rules: The rules of a memory for a setting, a number.
        settings: Among these one is chosen, on films of another seed.
        capacity: Rows.
        pins: Whether rows that matter to the clip model are pinned.
        gru: Whether it is no memory but a GRU.
    """

    title: str
    rules: Rules | None = None
    settings: Sequence[float] = (0.0,)
    capacity: int = CAPACITY
    pins: bool = False
    gru: bool = False


CONTESTANTS = {
    "window": Contestant("window alone", lambda _: {}, capacity=WINDOW - 1),
    "wide": Contestant("window of equal compute", lambda _: {}, capacity=2 * CAPACITY),
    "gru": Contestant("GRU", gru=True),
    "fifo": Contestant("FIFO", lambda _: {}),
    "every": Contestant("FIFO of every n-th", lambda n: {"write": video.EveryNth(int(n))}, settings=(2, 4, 8)),
    "uniform": Contestant("uniform over lifetime", lambda _: {"evict": video.UniformOverLifetime()}),
    "used": Contestant("least used", lambda _: {"evict": video.LeastUsed()}),
    "pinned": Contestant("pinned anchors", lambda _: {"evict": video.PinnedAnchors(recent=CAPACITY // 2)}, pins=True),
    "quality": Contestant("quality gate", lambda t: {"write": video.Quality(t)}, settings=(0.5, 0.9)),
    "novelty": Contestant("novelty gate", lambda t: {"write": video.Novelty(t)}, settings=(0.1, 0.3, 0.5)),
    "merge": Contestant("merge neighbours", lambda _: {"compress": video.MergeNeighbours()}),
    "prototypes": Contestant(
        "prototypes",
        lambda _: {"compress": video.Prototypes(2, candidates=CAPACITY - 2), "evict": video.LeastUsed()},
    ),
}


@torch.no_grad()
def remember(contestant: Contestant, setting: float, seen: Seen) -> Memory:
    """A memory that has seen all of its films but their last clips, a stream each."""
    films, clips = seen.quality.shape
    rules = {} if contestant.rules is None else contestant.rules(setting)
    memory = video.TemporalMemory(DIM, contestant.capacity, streams=films, read=video.Attention(SHARPNESS), **rules)
    for clip in range(clips - 1):
        quality = seen.quality[:, clip]
        pins = {"pin": quality > 0.5} if contestant.pins else {}
        memory.step(seen.features[:, clip], SECONDS * clip, quality=quality, **pins)
    return memory


class Recall(nn.Module):
    """A learned question to a memory: attention over the rows of a film."""

    def __init__(self, read: video.Attention | video.Average | video.Maximum | video.Nearest) -> None:
        super().__init__()
        self.query = nn.Linear(DIM, DIM)
        if isinstance(read, video.Nearest):
            # It has no gradient, and asks for what is like the last clip.
            nn.init.eye_(self.query.weight)
        else:
            # At first the question is much the same, whatever the last clip is like.
            nn.init.normal_(self.query.weight, std=0.05)
        self.read = read

    def forward(self, memory: Memory, seen: Seen, films: Tensor) -> Tensor:
        """Context ``(b, DIM)`` of the last clips of some films."""
        last = seen.features[films, -1]
        time = SECONDS * (seen.features.shape[1] - 1)
        return memory.read(self.query(last), time=time, stream_ids=films, read=self.read).value


class Recurrent(nn.Module):
    """A GRU over the whole film, whose state has as many numbers as a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(DIM, CAPACITY * DIM, batch_first=True)
        self.out = nn.Linear(CAPACITY * DIM, DIM)

    def forward(self, memory: None, seen: Seen, films: Tensor) -> Tensor:  # noqa: ARG002
        """Context ``(b, DIM)``."""
        return self.out(self.gru(seen.features[films])[1][0])
