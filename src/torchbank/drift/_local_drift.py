"""Correct stored rows by what happened to their neighbours: semantic drift compensation.

Axes: rows (of the memory), pairs (old and new embeddings of one instance).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchbank.banks import BankView
from torchbank.drift._recent_pairs import RecentPairs
from torchbank.drift._revisit_drift import Revisits
from torchbank.errors import BankValueError

# Weights of this many rows times pairs fit the cache.
_WEIGHTS_A_BLOCK = 1 << 20


def compensate(
    rows: Float[Tensor, "rows dim"],
    before: Float[Tensor, "pairs dim"],
    after: Float[Tensor, "pairs dim"],
    *,
    bandwidth: float,
    share: Float[Tensor, "rows pairs"] | None = None,
    log_weights: Float[Tensor, " pairs"] | None = None,
) -> Float[Tensor, "rows dim"]:
    """Move each row by the mean drift of the pairs around it ([Yu et al. 2020, eq. 4 to 6](arXiv:2004.00440)).

    ``row + sum_i w_i (after_i - before_i)`` with w the softmax of ``-||before_i - row||^2 / (2 bandwidth^2)``, taken in
    log space: however far the nearest pair is, its weight is not 0 / 0.

    Args:
        rows: ``(rows, dim)``.
        before: ``(pairs, dim)``, one pair or more.
        after: ``(pairs, dim)``.
        bandwidth: The distance at which a pair counts exp(-1/2) of one at the row itself.
        share: ``(rows, pairs)``, how much of a pair's drift a row has undergone; all of it by default.
        log_weights: ``(pairs,)``, added to the logits; -inf leaves a pair out.

    Raises:
        BankValueError: ``bandwidth`` is not above 0.

    Example:
        >>> import torch
        >>> from torchbank.drift import compensate
        >>> before, shift = torch.randn(50, 3), torch.tensor([1.0, 2.0, 3.0])
        >>> rows = torch.randn(5, 3)
        >>> torch.allclose(compensate(rows, before, before + shift, bandwidth=0.1), rows + shift, atol=1e-5)
        True
    """
    _check_bandwidth(bandwidth)
    # The row's own square is the same for all pairs, and falls out of the softmax.
    bias = -before.square().sum(dim=1) / (2 * bandwidth**2)
    if log_weights is not None:
        bias = bias + log_weights
    weights = torch.addmm(bias, rows, before.T, alpha=bandwidth**-2).softmax(dim=1)
    if share is not None:
        weights = weights * share
    return torch.addmm(rows, weights, after - before)


class LocalDrift(nn.Module):
    """Semantic drift compensation of a memory, by pairs that come for free where instances are seen again.

    Keeps the latest pairs of an instance's last embedding and its new one. A stored row moves by the mean drift of the
    pairs that began near it (`compensate`). A pair tells how far an embedding went in so many steps; a row that is
    younger has gone a share of that way, one that is older at least as far. What the drift is assumed to be: alike
    among neighbours, and steady.

    All state is in ``state_dict()``. Nothing waits for the device. A correction compares every pair with every row,
    which takes longer than the loss itself where there are more pairs than images in a batch.

    Args:
        dim: Embedding dim.
        pairs: How many are kept.
        bandwidth: See `compensate`. On the unit sphere the distance of unrelated rows is about 1.4.
        device: Where they lie.

    Raises:
        BankValueError: ``bandwidth`` is not above 0.

    Example:
        >>> import torch
        >>> import torchbank as tb
        >>> from torchbank.drift import LocalDrift, RevisitDrift
        >>> record, correction = RevisitDrift(100, 4), LocalDrift(4)
        >>> bank = tb.MemoryBank(100, 4)
        >>> for step in range(3):
        ...     embeddings, ids = torch.randn(100, 4), torch.arange(100)
        ...     correction.observe(record.revisits(embeddings, ids, step), step=step)
        ...     _ = bank.push(embeddings, step=step)
        >>> neighbors = bank.transformed(correction).nearest(torch.randn(2, 4), k=5)
    """

    def __init__(
        self, dim: int, *, pairs: int = 512, bandwidth: float = 0.3, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        _check_bandwidth(bandwidth)
        self.bandwidth = bandwidth
        self.pairs = RecentPairs(pairs, dim, device=device)

    def observe(self, revisits: Revisits, *, step: int | Tensor) -> None:
        """Remember the pairs of a step.

        Args:
            revisits: From `RevisitDrift.revisits`.
            step: The training step.
        """
        self.pairs.push(revisits, step=step)

    @torch.no_grad()
    def forward(self, rows: BankView) -> Float[Tensor, "rows dim"]:
        """The rows corrected; as they are where there is no pair yet.

        Args:
            rows: Rows of the memory, stamped by the same steps as the pairs.
        """
        known = self.pairs.view()
        stored, ages = rows.embeddings.float(), (self.pairs.clock - rows.steps).clamp_min(0)
        log_weights = torch.zeros(known.seen.shape, device=stored.device).masked_fill(~known.seen, -torch.inf)
        # With nothing seen all weights would be -inf and their softmax not a number.
        nothing = ~known.seen.any()
        log_weights = log_weights.masked_fill(nothing, 0.0)
        size = max(1, _WEIGHTS_A_BLOCK // known.seen.shape[0])
        corrected = torch.cat(
            [
                compensate(
                    part,
                    known.before,
                    known.after,
                    bandwidth=self.bandwidth,
                    share=(age[:, None] / known.ages.clamp_min(1)).clamp_max(1),
                    log_weights=log_weights,
                )
                for part, age in zip(stored.split(size), ages.split(size), strict=True)
            ]
        )
        return torch.where(nothing, stored, corrected)

    def extra_repr(self) -> str:
        """The setting, for ``repr``."""
        return f"bandwidth={self.bandwidth:g}"


def _check_bandwidth(bandwidth: float) -> None:
    if not bandwidth > 0:
        msg = f"bandwidth is {bandwidth}; expected a distance above 0"
        raise BankValueError(msg)
