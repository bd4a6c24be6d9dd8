"""Drift read from revisits: how far an image's embedding has moved since the image was last seen.

Axes: batch (instances of one step).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from torchbank.banks import KeyedMemoryBank
from torchbank.drift._age_statistics import AgeStatistics, DriftByAge


class Revisits(NamedTuple):
    """The embeddings of one step beside the last ones of the same instances.

    Attributes:
        before: ``(batch, dim)``, the last embeddings as they were recorded.
        after: ``(batch, dim)``, those of now; of unit length under cosine.
        ages: ``(batch,)`` int64, the steps between them.
        seen: ``(batch,)`` bool, False for an instance that comes up for the first time.
    """

    before: Float[Tensor, "batch dim"]
    after: Float[Tensor, "batch dim"]
    ages: Int64[Tensor, " batch"]
    seen: Bool[Tensor, " batch"]


class RevisitDrift(nn.Module):
    """Reads drift from the training batches themselves, at no forward pass of its own.

    Drift at age a is ``mean_x ||f(x; now) - f(x; now - a)||^2`` ([Wang et al. 2020, sec. 3.2](arXiv:1912.06798)).
    A keyed record holds each instance's last embedding; when the instance comes up again, the distance between
    its new and its last embedding is one observation at a known age. What varies between two views of an
    instance, such as random augmentation, is part of the distance: it is what the youngest ages show, and a
    stored row carries it as well.

    All state is in ``state_dict()``. Nothing waits for the device until `by_age` is called.

    Args:
        capacity: Instances; their ids lie in [0, capacity).
        dim: Embedding dim.
        metric: ``"cosine"`` compares on the unit sphere, ``"dot"`` embeddings as they are (squared distances
            above 65,536 count as that).
        dtype: Of the record. 16 bits add about 1e-5 (bfloat16) or 1e-7 (float16) to distances of unit vectors.
        device: Where the record lies.

    Example:
        >>> import torch
        >>> from torchbank.drift import RevisitDrift
        >>> drift = RevisitDrift(capacity=100, dim=2)
        >>> ids = torch.tensor([3])
        >>> drift.observe(torch.tensor([[1.0, 0.0]]), ids, step=10)
        >>> drift.observe(torch.tensor([[0.0, 1.0]]), ids, step=14)  # 90 degrees in 4 steps
        >>> by_age = drift.by_age()
        >>> by_age.age.tolist(), by_age.mean.tolist(), by_age.count.tolist()
        ([4.0], [2.0], [1])
    """

    def __init__(
        self,
        capacity: int,
        dim: int,
        *,
        metric: str = "cosine",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.record = KeyedMemoryBank(capacity, dim, metric=metric, dtype=dtype, device=device, duplicates="last")
        self.statistics = AgeStatistics(device)

    def observe(self, embeddings: Float[Tensor, "batch dim"], ids: Int64[Tensor, " batch"], step: int | Tensor) -> None:
        """Compare embeddings with the last ones of the same ids, then record them.

        Args:
            embeddings: ``(batch, dim)`` floating.
            ids: ``(batch,)`` int64 in [0, capacity). Of an id given twice, both are compared with what was
                recorded before, and the last is recorded.
            step: The training step.

        Raises:
            BankValueError: Shapes do not fit, an id is out of range, or a row cannot be stored.
        """
        self.revisits(embeddings, ids, step)

    @torch.no_grad()
    def revisits(
        self, embeddings: Float[Tensor, "batch dim"], ids: Int64[Tensor, " batch"], step: int | Tensor
    ) -> Revisits:
        """What `observe` does, and both sides of each comparison.

        Args:
            embeddings: See `observe`, like all others.
            ids: See there.
            step: See there.

        Raises:
            BankValueError: See there.
        """
        # The push below says what is wrong with an id that is too large; here it only finds nothing.
        last = self.record.gather(ids.masked_fill(ids >= self.record.capacity, -1))
        self.record.push(embeddings, keys=ids, step=step)
        now = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        if self.record.metric == "cosine":
            now = nn.functional.normalize(now, dim=1)
        revisits = Revisits(last.embeddings, now, (step - last.steps).clamp_min(0), last.valid)
        self.statistics.add(squared_distances(now, last.embeddings), revisits.ages, last.valid)
        return revisits

    def by_age(self) -> DriftByAge:
        """What was observed so far, on the CPU.

        Returns:
            `DriftByAge`, empty if nothing was observed.
        """
        return self.statistics.by_age()

    def reset(self) -> None:
        """Forget the statistics but keep each instance's last embedding."""
        self.statistics.reset()


def squared_distances(now: Float[Tensor, "batch dim"], then: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
    """Of each row and the row beside it."""
    return (now - then).square().sum(dim=1)
