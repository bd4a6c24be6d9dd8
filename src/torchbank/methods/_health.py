"""What to watch while a self-supervised method trains: is it collapsing, and what is in its memory?"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from torchbank.banks import Bank

# Of a batch, as many look for their nearest row: enough to see it, and little beside a step.
_SAMPLED = 64


@torch.no_grad()
def health_logs(
    queries: Tensor,
    positives: Tensor,
    bank: Bank | None = None,
    *,
    collapsed_loss: float | Tensor,
    step: int,
    winners: Tensor | None = None,
) -> dict[str, Tensor]:
    """0-d tensors by name, found on the device.

    - ``collapsed_loss``: what the loss would be if all embeddings were equal.
    - ``embedding_std``: the standard deviation of the unit embeddings, a mean over dims, times sqrt(dim): 1 where
      they are spread over the sphere, 0 where they are one point.
    - ``positive_similarity``, ``negative_similarity``: the mean cosine of a query with its own positive, and with those
      of the other instances of the batch.
    - ``winner_entropy``: the entropy of which slot is nearest to a query, as a share of its highest value: 1 where
      each of up to 64 queries finds a row of its own, 0 where one row wins them all.
    - ``memory_rows``, ``memory_age``: see `memory_logs`.

    Args:
        queries: ``(batch, dim)``.
        positives: ``(batch, dim)``.
        bank: The memory.
        collapsed_loss: As it is logged.
        step: Now.
        winners: ``(batch,)`` slots, where the method itself has looked for the nearest row.
    """
    queries, positives = (normalize(each.detach().float(), dim=1) for each in (queries, positives))
    batch, dim = queries.shape
    own = (queries * positives).sum()
    others = queries.sum(dim=0) @ positives.sum(dim=0) - own
    if not isinstance(collapsed_loss, Tensor):
        # Filled on the device: copying a number there would wait.
        collapsed_loss = torch.full((), collapsed_loss, device=queries.device)
    logs = {
        "collapsed_loss": collapsed_loss.detach(),
        "embedding_std": queries.std(dim=0, correction=0).mean() * math.sqrt(dim),
        "positive_similarity": own / batch,
        "negative_similarity": others / max(1, batch * (batch - 1)),
    }
    if bank is not None:
        if winners is None:
            winners = bank.nearest(queries[:_SAMPLED], k=1).slots[:, 0]
        logs["winner_entropy"] = _entropy(winners[:_SAMPLED])
        logs |= memory_logs(bank, step)
    return logs


def memory_logs(bank: Bank, step: int) -> dict[str, Tensor]:
    """Rows and their mean age in steps."""
    return {"memory_rows": bank.count().float(), "memory_age": bank.mean_age(step).float()}


def _entropy(winners: Tensor) -> Tensor:
    """The entropy of the slots that are named, over its highest value."""
    share = (winners[:, None] == winners).float().mean(dim=1)
    return -share.log().mean() / math.log(max(2, len(winners)))
