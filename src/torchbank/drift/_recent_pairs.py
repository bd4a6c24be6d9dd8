"""The latest pairs of an instance's last embedding and its new one.

Axes: pairs (slots of the ring), batch (instances of one step).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torchbank.banks import MemoryBank
from torchbank.drift._revisit_drift import Revisits

# The age of an instance that came up for the first time: a slot without a pair.
_UNSEEN = -1


class RecentPairs(nn.Module):
    """A ring of `Revisits`, with fields beside each.

    Args:
        capacity: Pairs.
        dim: Embedding dim.
        fields: Dtype of each field.
        device: Where they lie.
    """

    def __init__(
        self,
        capacity: int,
        dim: int,
        *,
        fields: Mapping[str, torch.dtype] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        columns = {"before": (torch.float32, (dim,)), "age": torch.int64, **(fields or {})}
        # Both sides are of the length that they were observed with.
        self.ring = MemoryBank(capacity, dim, fields=columns, metric="dot", device=device)

    def push(self, revisits: Revisits, *, step: int | Tensor, **fields: Tensor) -> None:
        """Keep the pairs of a step; never waits for the device."""
        before, after, ages, seen = revisits
        ages = torch.where(seen, ages, _UNSEEN)
        columns: dict[str, Any] = {"before": before.float(), "age": ages, **fields}
        self.ring.push(after.detach(), step=step, **columns)

    @property
    def clock(self) -> Tensor:
        """0-d int64, the latest step."""
        return self.ring.clock

    @property
    def columns(self) -> dict[str, Tensor]:
        """The fields that were declared, slot by slot."""
        return {name: values for name, values in self.ring.fields.items() if name not in ("before", "age")}

    def view(self) -> Revisits:
        """Every slot; ``seen`` is False where it holds no pair."""
        ages = self.ring.fields["age"]
        seen = (self.ring.generations > 0) & (ages != _UNSEEN)
        return Revisits(self.ring.fields["before"], self.ring.embeddings, ages, seen)

    def newest(self, count: int) -> Tensor:
        """Slots of the latest pushes, up to so many, pairs or not. Waits for the device."""
        slots = self.ring.view().steps.argsort(descending=True, stable=True)
        return slots[:count]
