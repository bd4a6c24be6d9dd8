"""One file of a bank whose rows lie on several ranks, written by the first, which never holds all of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchbank.io import write_pieces
from torchbank.sharding._state import split_state

# Bytes of each rank's rows that are on their way at a time.
_RUN = 64 << 20


def save_whole(bank: Any, path: str | Path, header: dict[str, Any]) -> None:
    """Write what `torchbank.load` reads as a bank of one process; all ranks call it.

    Args:
        bank: A `ShardedBank`.
        path: The file, written by the first rank.
        header: What the file says of the bank.
    """
    columns, common = split_state(bank)
    shapes = {name: value.to("meta") for name, value in common.items()}
    shapes |= {
        name: torch.empty(bank.capacity, *column.shape[1:], dtype=column.dtype, device="meta")
        for name, column in columns.items()
    }
    shapes = dict(sorted(shapes.items(), key=lambda entry: -entry[1].element_size()))

    def pieces(name: str) -> Iterator[Tensor]:
        return iter([common[name]]) if name in common else _runs(bank, columns[name])

    if bank.ranks.rank == 0:
        write_pieces(path, shapes, pieces, header)
        return
    # In the order in which the first rank asks for them.
    for name in shapes:
        for _ in pieces(name):
            pass


def _runs(bank: Any, column: Tensor) -> Iterator[Tensor]:
    """The rows of all ranks by slot, a run at a time; nothing but on the first rank."""
    ranks = bank.ranks.size
    longest = -(-bank.capacity // ranks)
    size = max(1, _RUN // max(1, column[0].nbytes))
    for start in range(0, longest, size):
        rows = column[start : start + size].to(bank.device)
        missing = min(size, longest - start) - len(rows)
        parts = bank.ranks.to_first(torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]))
        if parts is not None:
            yield torch.stack(parts, dim=1).flatten(0, 1)[: bank.capacity - start * ranks]
