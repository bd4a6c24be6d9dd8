"""pytorch-metric-learning's `CrossBatchMemory`, filled by its own `add_to_memory` before timing.

A step is ``loss(embeddings, labels)`` as documented, which enqueues the batch and compares it with the memory,
without the batch's own rows. With cosine similarity, margins 1 and 0.5 and its default reducer, the mean over
non-zero pairs, the contrastive loss is torchbank's with ``normalize="active"``; with one margin and the mean over
non-zero triplets, the triplet loss is torchbank's with ``mining="all"``.
"""

from ..contestants import MARGIN, TRIPLET_MARGIN, backward
from ..data import Contestant, Inputs
from ..measure import Step


def _filled(data: Inputs, loss: object) -> Step:
    from pytorch_metric_learning.losses import CrossBatchMemory

    memory = CrossBatchMemory(loss, embedding_size=data.case.dim, memory_size=len(data.rows)).to(data.device)
    memory.add_to_memory(data.rows, data.row_labels, len(data.rows))
    return backward(data.queries, lambda q: memory(q, data.labels))


def _contrastive(data: Inputs) -> Step:
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.losses import ContrastiveLoss

    return _filled(data, ContrastiveLoss(pos_margin=1, neg_margin=MARGIN, distance=CosineSimilarity()))


def _triplet(data: Inputs) -> Step:
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.losses import TripletMarginLoss

    loss = TripletMarginLoss(margin=TRIPLET_MARGIN, distance=CosineSimilarity(), triplets_per_anchor="all")
    return _filled(data, loss)


_NEEDS = {"needs": "pytorch_metric_learning", "dtypes": ("float32",)}
CONTESTANTS = {
    "contrastive": [Contestant("pytorch-metric-learning CrossBatchMemory", _contrastive, floats=12, **_NEEDS)],
    # It lists all triplets from a (batch x rows x rows) tensor, so it is tried where it can do no harm.
    "triplet": [Contestant("pytorch-metric-learning CrossBatchMemory", _triplet, risky=True, **_NEEDS)],
}
