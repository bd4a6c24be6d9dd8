"""`torch.compile` makes one graph of a step, and gives what eager mode gives."""

import pytest
import torch

from torchbank import video

pytestmark = pytest.mark.plain

DIM, STREAMS = 8, 3


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"evict": video.UniformOverLifetime(seed=1)},
        {"evict": video.LeastUsed(hysteresis=1)},
        {"evict": video.PinnedAnchors(recent=3)},
        {"compress": video.MergeNeighbours()},
        {"compress": video.Prototypes(1, 3), "evict": video.LeastUsed()},
        {"write": (video.EveryNth(2), video.Novelty(0.1))},
    ],
    ids=["fifo", "uniform", "least used", "anchors", "merging", "prototypes", "gates"],
)
def test_step__is_one_graph_and_the_same(rules):
    generator = torch.Generator().manual_seed(0)
    eager, traced = (video.TemporalMemory(DIM, 5, streams=STREAMS, **rules) for _ in range(2))
    step = torch.compile(traced.step, fullgraph=True, backend="eager")
    for second in range(20):
        features = torch.randn(STREAMS, DIM, generator=generator)
        time = torch.full((STREAMS,), float(second), dtype=torch.float64)
        ours, theirs = eager.step(features, time), step(features, time)
        torch.testing.assert_close(theirs.value, ours.value, atol=1e-6, rtol=1e-5)
        assert torch.equal(theirs.valid, ours.valid)
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(traced.state_dict()[name], value, atol=1e-5, rtol=1e-5)
