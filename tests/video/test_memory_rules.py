"""Every rule against a memory of plain lists, row by row: what stays, where, and what is read."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_memory import PlainMemory

from torchbank import video

DIM, CAPACITY, STREAMS = 4, 5, 3
CASES = {
    "first in, first out": ({}, {}),
    "every third": ({"write": video.EveryNth(3)}, {"write": [("every", 3)]}),
    "every second of quality": (
        {"write": (video.EveryNth(2), video.Quality(0.4))},
        {"write": [("every", 2), ("quality", 0.4)]},
    ),
    "novel": ({"write": video.Novelty(0.5)}, {"write": [("novelty", 0.5)]}),
    "uniform": ({"evict": video.UniformOverLifetime(seed=3)}, {"evict": ("uniform", 3)}),
    "least used": ({"evict": video.LeastUsed()}, {"evict": ("least used", 0)}),
    "least used, slack": ({"evict": video.LeastUsed(hysteresis=2)}, {"evict": ("least used", 2)}),
    "anchors": ({"evict": video.PinnedAnchors(recent=3)}, {"evict": ("anchors", 3)}),
    "merging": ({"compress": video.MergeNeighbours()}, {"compress": ("merging",)}),
    "prototypes": ({"compress": video.Prototypes(2, 4)}, {"compress": ("prototypes", 2, 4)}),
    "prototypes, least used": (
        {"compress": video.Prototypes(2, 3), "evict": video.LeastUsed()},
        {"compress": ("prototypes", 2, 3), "evict": ("least used", 0)},
    ),
    "novel and merging": (
        {"write": video.Novelty(0.05), "compress": video.MergeNeighbours()},
        {"write": [("novelty", 0.05)], "compress": ("merging",)},
    ),
}
ROWS = st.lists(
    st.tuples(st.integers(0, STREAMS - 1), st.floats(0, 2), st.integers(0, 9), st.integers(0, 4)), max_size=6
)
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["write", "step", "step", "read", "reset"]), ROWS), min_size=1, max_size=12
)


class Pair:
    """A memory and a plain one that are told the same."""

    def __init__(self, ours, plain, metric, seed):
        self.memory = video.TemporalMemory(
            DIM, CAPACITY, streams=STREAMS, metric=metric, fields={"label": torch.int64}, **ours
        )
        self.plain = PlainMemory(DIM, CAPACITY, STREAMS, metric=metric, **plain)
        self.random = np.random.default_rng(seed)
        self.now = [0.0] * STREAMS
        self.labels = 0

    def act(self, kind, rows):
        streams = [row[0] for row in rows]
        vectors = self.random.normal(size=(len(rows), DIM)).astype(np.float32)
        if kind == "reset":
            for stream in streams:
                self.plain.reset(stream)
            self.memory.reset(streams)
        elif kind == "read":
            expected = [self.plain.read(stream, vector) for stream, vector in zip(streams, vectors, strict=True)]
            self.agree(self.memory.read(torch.from_numpy(vectors), stream_ids=streams).value, expected)
        else:
            self.write(kind, rows, streams, vectors)

    def write(self, kind, rows, streams, vectors):
        times, places, values = [], [], []
        labels = torch.arange(self.labels, self.labels + len(rows))
        self.labels += len(rows)
        for (stream, later, quality, pin), vector, label in zip(rows, vectors, labels.tolist(), strict=True):
            self.now[stream] += later
            times.append(self.now[stream])
            if kind == "step":
                values.append(self.plain.read(stream, vector, before=self.now[stream]))
            place = self.plain.write(stream, vector, self.now[stream], pin=pin == 0, quality=quality / 9, label=label)
            places.append(-1 if place is None else stream * CAPACITY + place)
        beside = {
            "stream_ids": torch.tensor(streams, dtype=torch.int64),
            "quality": torch.tensor([row[2] / 9 for row in rows], dtype=torch.float32),
            "pin": torch.tensor([row[3] == 0 for row in rows], dtype=torch.bool),
            "label": labels,
        }
        seconds = torch.tensor(times, dtype=torch.float64)
        answer = getattr(self.memory, kind)(torch.from_numpy(vectors), seconds, **beside)
        if kind == "step":
            self.agree(answer.value, values)
        else:
            assert answer.tolist() == places

    def agree(self, found, expected):
        np.testing.assert_allclose(found.numpy(), np.array(expected).reshape(-1, DIM), atol=1e-5)

    def compare(self):
        assert len(self.memory) == sum(map(len, self.plain.rows))
        for stream, rows in enumerate(self.plain.rows):
            view = self.memory.view(stream)
            assert view.fields["label"].tolist() == [row["label"] for row in rows]
            assert (view.slots - stream * CAPACITY).tolist() == [row["place"] for row in rows]
            assert view.pinned.tolist() == [row["pinned"] for row in rows]
            self.agree(view.embeddings, [row["vector"] for row in rows])
            for ours, name in ((view.times, "time"), (view.latest, "latest"), (view.sizes, "size")):
                np.testing.assert_allclose(ours.numpy(), [row[name] for row in rows], atol=1e-5)


@pytest.mark.parametrize("case", CASES)
@given(actions=ACTIONS, metric=st.sampled_from(["dot", "cosine"]), seed=st.integers(0, 1000))
@settings(max_examples=8)
def test_rules__keep_and_read_what_plain_lists_do(case, actions, metric, seed):
    ours, plain = CASES[case]
    pair = Pair(ours, plain, metric, seed)
    for action in actions:
        pair.act(*action)
        pair.compare()


@pytest.mark.parametrize("case", CASES)
def test_rules__keep_what_plain_lists_do_over_a_long_stream(case):
    ours, plain = CASES[case]
    pair = Pair(ours, plain, "dot", seed=1)
    random = np.random.default_rng(2)
    for _ in range(20):
        rows = [
            (stream, random.random(), int(random.integers(10)), int(random.integers(30))) for stream in (0, 1, 2, 1)
        ]
        pair.act("step", rows)
    pair.compare()
