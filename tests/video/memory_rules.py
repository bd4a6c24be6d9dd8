"""A memory of each kind, by name: what `TemporalMemory` takes beside its sizes."""

from torchbank import video

RULES = {
    "fifo": {},
    "uniform": {"evict": video.UniformOverLifetime(seed=1)},
    "least used": {"evict": video.LeastUsed(hysteresis=1)},
    "anchors": {"evict": video.PinnedAnchors(recent=3)},
    "merging": {"compress": video.MergeNeighbours()},
    "prototypes": {"compress": video.Prototypes(1, 3), "evict": video.LeastUsed()},
    "gates": {"write": (video.EveryNth(2), video.Quality(0.3), video.Novelty(0.1))},
}
