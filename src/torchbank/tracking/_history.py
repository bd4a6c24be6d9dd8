"""What a linker decided, and which identity each track had when."""

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """A stretch of a track under one identity.

    Attributes:
        identity: Which.
        first_frame: Its first frame.
        last_frame: Its last frame so far.
    """

    identity: int
    first_frame: int
    last_frame: int


class Decision(NamedTuple):
    """How a track got its identity.

    Attributes:
        source: Where.
        track_id: The id of the tracker.
        frame: When it was decided.
        time: In seconds, NaN for none.
        identity: The outcome.
        outcome: ``"returned"`` for a known identity, ``"new"`` for another.
        similarity: With the best identity that the track could be, -inf for none.
        margin: The lead of that identity over the second best; see `torchbank.tracking.IdentityLinker`.
        threshold: What the similarity was compared with.
        provisional: The number under which the track was shown before.
    """

    source: str
    track_id: int
    frame: int
    time: float
    identity: int
    outcome: str
    similarity: float
    margin: float
    threshold: float
    provisional: int


class History:
    """The last decisions and the spans of the last tracks.

    Args:
        length: How many tracks, and how many decisions, are remembered.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.decisions: deque[Decision] = deque(maxlen=length)
        self.spans: OrderedDict[tuple[str, int], list[Span]] = OrderedDict()

    def close(self, source: str, track: int, span: Span) -> None:
        """Add the span of a track that ended or changed its identity."""
        self.spans.setdefault((source, track), []).append(span)
        self.spans.move_to_end((source, track))
        while len(self.spans) > self.length:
            self.spans.popitem(last=False)

    def state(self, sources: list[str]) -> dict[str, np.ndarray]:
        """As columns of numbers, sources by their place in ``sources``."""
        spans = [
            (sources.index(source), track, *span) for (source, track), parts in self.spans.items() for span in parts
        ]
        whole = [
            (sources.index(d.source), d.track_id, d.frame, d.identity, d.outcome == "returned", d.provisional)
            for d in self.decisions
        ]
        real = [(d.time, d.similarity, d.margin, d.threshold) for d in self.decisions]
        return {
            "spans": np.array(spans, dtype=np.int64).reshape(-1, 5),
            "decided": np.array(whole, dtype=np.int64).reshape(-1, 6),
            "measured": np.array(real, dtype=np.float64).reshape(-1, 4),
        }

    def load(self, state: Mapping[str, np.ndarray], sources: list[str]) -> None:
        """Take what `state` gave."""
        for source, track, identity, first, last in state["spans"].tolist():
            self.close(sources[source], track, Span(identity, first, last))
        for (source, track, frame, identity, returned, shown), (time, similarity, margin, threshold) in zip(
            state["decided"].tolist(), state["measured"].tolist(), strict=True
        ):
            outcome = "returned" if returned else "new"
            self.decisions.append(
                Decision(sources[source], track, frame, time, identity, outcome, similarity, margin, threshold, shown)
            )
