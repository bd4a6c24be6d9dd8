"""What pairs a loss is made of: logged for the batch and for the memory alike."""

from typing import Any

import torch
from torch import Tensor

from torchbank import losses
from torchbank.losses import ContrastivePairs, RowSource

# Of a batch, as many anchors are looked at where the loss itself does not count pairs.
_ANCHORS = 32
_MARGIN = 0.5


def pair_logs(term: str, pairs: ContrastivePairs, *, rows: int | Tensor) -> dict[str, Tensor]:
    """0-d tensors by name, found on the device.

    - ``positives``, ``active_negatives``: pairs an anchor; a negative is active above the margin.
    - ``active_fraction``: active negatives over the rows there are.
    - ``positive_distance``, ``negative_distance``: the mean squared distance, 2 - 2 s, of positive pairs and of active
      negative ones; 0 where there are none.

    Args:
        term: Put before each name, ``batch`` or ``memory``.
        pairs: What was compared.
        rows: With how many.
    """
    positives, negatives = (side.count.sum() for side in (pairs.positives, pairs.negatives))
    apart = pairs.positives.value.detach().sum() / positives.clamp_min(1)
    excess = pairs.negatives.value.detach().sum() / negatives.clamp_min(1)
    closeness = 1 - pairs.margin - excess
    return {
        f"{term}_positives": pairs.positives.count.mean(),
        f"{term}_active_negatives": pairs.negatives.count.mean(),
        f"{term}_active_fraction": pairs.negatives.count.mean() / rows,
        f"{term}_positive_distance": 2 * apart,
        f"{term}_negative_distance": torch.where(negatives > 0, 2 * closeness, 0.0),
    }


@torch.no_grad()
def sampled_pair_logs(
    term: str, embeddings: Tensor, bank: RowSource | None, *, rows: int | Tensor, **compared: Any
) -> dict[str, Tensor]:
    """The same for a loss that does not count its pairs, as the contrastive loss of margin 0.5 would see them.

    Args:
        term: See `pair_logs`.
        embeddings: ``(batch, dim)``; over a memory up to 32 of them are looked at.
        bank: The memory, or None for the batch itself.
        rows: See `pair_logs`.
        **compared: ``labels``, ``ids`` and the row selection.
    """
    if bank is not None:
        embeddings = embeddings[:_ANCHORS]
        compared = compared | {name: compared[name][:_ANCHORS] for name in ("labels", "ids")}
    pairs = losses.contrastive_pairs(embeddings.detach(), bank, margin=_MARGIN, **compared)
    return pair_logs(term, pairs, rows=rows)
