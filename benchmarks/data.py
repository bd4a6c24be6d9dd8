"""The inputs of a case, and what a contestant is."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import torchbank as tb

from .measure import Step
from .schema import Case

CLASSES = 1_000


@dataclass(frozen=True)
class Inputs:
    """Queries and positives in float32, rows in the dtype of the case, labels for the pair losses."""

    case: Case
    device: str
    queries: Tensor
    positives: Tensor
    rows: Tensor
    labels: Tensor
    row_labels: Tensor

    def bank(self, metric: str = "dot") -> tb.MemoryBank:
        """A full bank of these rows, with labels and ids."""
        fields = {"label": torch.int64, "id": torch.int64} if self.case.excluded or self.labelled else None
        bank = tb.MemoryBank(
            len(self.rows),
            self.case.dim,
            metric=metric,
            fields=fields,
            dtype=self.rows.dtype,
            device=self.device,
        )
        ids = torch.arange(len(self.rows), device=self.device)
        for start in range(0, len(self.rows), 65_536):
            block = slice(start, start + 65_536)
            stored = {"label": self.row_labels[block], "id": ids[block]} if fields else {}
            bank.push(self.rows[block].float(), **stored)
        return bank

    @property
    def labelled(self) -> bool:
        """Whether labels matter."""
        return self.case.name in ("contrastive", "triplet")


@dataclass(frozen=True)
class Contestant:
    """Who answers a case.

    `make` fills banks and indexes and returns the step that is timed. `needs` names the package, `dtypes` the rows
    it can hold, `floats` how many numbers of (batch x rows) it must hold, so that it is skipped where they
    cannot fit. A `risky` one is tried once in a process of its own first, under a limit of memory.
    """

    who: str
    make: Callable[[Inputs], Step]
    needs: str = "torch"
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    floats: float = 0
    risky: bool = False


def unit(rows: int, dim: int, seed: int, device: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random rows of norm 1, made block by block so that making them leaves no peak of memory behind."""
    values = torch.empty(rows, dim, device=device, dtype=dtype)
    generator = torch.Generator(device).manual_seed(seed)
    for block in values.split(65_536):
        drawn = torch.randn(len(block), dim, generator=generator, device=device)
        block.copy_(drawn / drawn.norm(dim=1, keepdim=True))
    return values


def inputs(case: Case, device: str) -> Inputs:
    """Random inputs; where labels matter, classes around centres that share a direction.

    About one pair of two labels in a hundred is then closer than the margin 0.5, as in training, where random
    directions would have none.
    """
    dtype = getattr(torch, case.dtype)
    queries, positives = unit(case.batch, case.dim, 1, device), unit(case.batch, case.dim, 2, device)
    rows = unit(1 if case.name == "push" else case.rows, case.dim, 3, device, dtype)
    generator = torch.Generator(device).manual_seed(4)
    labels, row_labels = (
        torch.randint(CLASSES, (size,), generator=generator, device=device) for size in (case.batch, len(rows))
    )
    if case.name in ("contrastive", "triplet"):
        centers = unit(CLASSES, case.dim, 5, device) + 0.9**0.5 * unit(1, case.dim, 6, device)
        queries = torch.nn.functional.normalize(centers[labels] + 0.8 * queries)
        rows = torch.nn.functional.normalize(centers[row_labels] + 0.8 * rows)
    return Inputs(case, device, queries, positives, rows, labels, row_labels)
