"""Rows on their way into a bank: read before they are written, and one push for each update."""

from typing import Any

import torch
from torch import Tensor

from torchbank.banks import Bank


class PendingRows:
    """Keeps what forward passes want to remember until the weights have moved.

    With gradient accumulation several forward passes make one update, and the bank is pushed to once.
    """

    def __init__(self) -> None:
        self._waiting: list[dict[str, Any]] = []

    def add(self, embeddings: Tensor, *, step: int, **columns: Tensor) -> None:
        """Queue the rows of one forward pass."""
        self._waiting.append({"embeddings": embeddings.detach(), "step": step, **columns})

    def push_into(self, bank: Bank) -> None:
        """Push all that waits, under the latest step."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        step = waiting[-1].pop("step")
        columns: dict[str, Any] = {name: torch.cat([rows[name] for rows in waiting]) for name in waiting[-1]}
        bank.push(columns.pop("embeddings"), step=step, **columns)
