"""The graphs of the rows that were written last, so that what is read of them can be learned through."""

from collections import deque
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


class LiveRows(NamedTuple):
    """Rows of one write that still have a graph.

    Attributes:
        rows: ``(rows, dim)``, as they are stored, with their gradient.
        slots: ``(rows,)``; -1 for one that has no slot (any more).
        generations: ``(rows,)``, of the slot as the row was written.
    """

    rows: Float[Tensor, "rows dim"]
    slots: Int64[Tensor, " rows"]
    generations: Int64[Tensor, " rows"]


class Graphs:
    """`LiveRows` of the last ``writes`` calls of write. Older ones are let go, and with them what they hold.

    Graphs are no state: a copy of a memory and one from a file have none.

    Args:
        writes: How many calls.
    """

    def __init__(self, writes: int) -> None:
        self.held: deque[list[LiveRows]] = deque(maxlen=writes)

    def begin(self) -> None:
        """Start a call, and let go of the oldest."""
        self.held.append([])

    def add(self, live: LiveRows) -> None:
        """Keep rows of the call that was begun last."""
        if self.held:
            self.held[-1].append(live)

    def clear(self) -> None:
        """Let go of all."""
        self.held.clear()

    def forget(self, gone: Bool[Tensor, " slots"]) -> None:
        """Let go of the rows in some slots."""
        for call in self.held:
            call[:] = [
                live._replace(slots=torch.where(gone[live.slots] & (live.slots >= 0), -1, live.slots)) for live in call
            ]

    def lay_over(
        self,
        rows: Float[Tensor, "batch capacity dim"],
        slots: Int64[Tensor, "batch capacity"],
        written: tuple[Int64[Tensor, " slots"], Bool[Tensor, " slots"]],
    ) -> Float[Tensor, "batch capacity dim"]:
        """The rows at some slots, with the graphs of those that are still what was written there.

        Args:
            rows: What is stored.
            slots: Where.
            written: The generation of each slot of the bank, and whether it was rewritten since.
        """
        lives = [live for call in self.held for live in call]
        if not lives:
            return rows
        generations, mixed = written
        every = torch.cat([live.rows for live in lives]).to(rows.dtype)
        at = torch.cat([live.slots for live in lives])
        same = (at >= 0) & (generations[at] == torch.cat([live.generations for live in lives])) & ~mixed[at]
        # One place more than there are slots, for rows that have none.
        index = torch.full((len(generations) + 1,), -1, device=at.device)
        index[torch.where(same, at, len(generations))] = torch.arange(len(at), device=at.device)
        index[-1] = -1
        chosen = index[slots]
        return torch.where(chosen[:, :, None] >= 0, every[chosen.clamp_min(0)], rows)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Graphs":
        return Graphs(self.held.maxlen or 0)

    def __getstate__(self) -> dict[str, Any]:
        return {"held": deque(maxlen=self.held.maxlen)}
