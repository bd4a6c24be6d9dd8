"""Encode the stalest rows of a memory again, for as long as there is time."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from torchbank.banks import Bank, BankView, StaleRows
from torchbank.errors import BankValueError

Encode = Callable[[BankView], Tensor]
"""Encodes rows again: a view of them, with fields that tell what they are, to embeddings ``(rows, dim)``."""


class Refreshed(NamedTuple):
    """What a `refresh` did; of a bank that ranks share, all of them together.

    Attributes:
        rows: How many rows were written again.
        stale: How many had been overwritten in the meantime, and were left alone.
        oldest: The age of the oldest row afterwards; 0 for an empty bank.
    """

    rows: int
    stale: int
    oldest: int


@torch.no_grad()
def refresh(bank: Bank, encode: Encode, *, seconds: float, step: int | None = None, batch_size: int = 256) -> Refreshed:
    """Encode rows again, stalest first, and write them back where they still are.

    Goes on batch by batch while another is likely to end within the budget, judged by the one before; the first is
    encoded whatever it takes. A row that a push has overwritten while it was being encoded stays as pushed. Waits
    for the device.

    Ranks that share the bank call it at the same time. Each encodes a share of the rows, stalest first, of a sharded
    bank its own; they stop together, when the first of them runs out of time.

    Args:
        bank: The memory.
        encode: ``encode(rows)`` gives embeddings of the rows it is shown, say of the images that
            ``rows.fields["id"]`` names.
        seconds: The budget, above 0.
        step: Now, the stamp of what is written; None is the latest stamp of the bank.
        batch_size: Rows that are encoded together, by each rank.

    Returns:
        `Refreshed`.

    Raises:
        BankValueError: The budget is not above 0 or ``batch_size`` not 1 or more; what ``encode`` gives does not
            fit, or is not finite.
        BankStateError: A rank that shares the bank does not answer.

    Example:
        >>> import torch
        >>> import torchbank as tb
        >>> from torchbank.drift import refresh
        >>> images, encoder = torch.randn(100, 3), torch.nn.Linear(3, 8)
        >>> bank = tb.MemoryBank(50, 8, fields={"id": torch.int64})
        >>> for step, ids in enumerate(torch.arange(100).split(10)):
        ...     _ = bank.push(encoder(images[ids]), id=ids)
        >>> bank.age().max().item()
        4
        >>> refresh(bank, lambda rows: encoder(images[rows.fields["id"]]), seconds=60.0)
        Refreshed(rows=50, stale=0, oldest=0)
    """
    if not seconds > 0 or batch_size < 1:
        msg = f"seconds={seconds}, batch_size={batch_size}; expected a budget above 0 and batches of 1 row or more"
        raise BankValueError(msg)
    now = int(bank.clock) if step is None else step
    parts, written, stale, last = bank.stalest(batch_size), 0, 0, -math.inf
    begin = time.perf_counter()
    while True:
        before = time.perf_counter()
        part = next(parts, None)
        given = 0 if part is None else len(part.slots)
        rows, needed = _of_all(bank, given, before - begin + last)
        if not rows or needed > seconds:
            break
        lost = int(_encode_again(bank, part if given else None, encode, now))
        written, stale, last = written + rows - lost, stale + lost, time.perf_counter() - before
    ages = bank.age(now)[bank.view().valid.to(bank.device)]
    _, oldest = _of_all(bank, len(ages), int(ages.max()) if len(ages) else 0)
    return Refreshed(written, stale, int(oldest))


def _of_all(bank: Bank, rows: int, number: float) -> tuple[int, float]:
    """The rows of all ranks that share the bank, and the largest of their numbers."""
    everyone = bank.of_all_ranks(torch.tensor([rows, number], dtype=torch.float64))
    return int(everyone[:, 0].sum()), float(everyone[:, 1].max())


def _encode_again(bank: Bank, part: StaleRows | None, encode: Encode, now: int) -> Int64[Tensor, ""]:
    """Write what the encoder makes of a part; a rank that is through takes part in what the others write."""
    if part is None:
        none = torch.empty(0, dtype=torch.int64, device=bank.device)
        return bank.update(none, none, torch.empty(0, bank.dim, device=bank.device), step=now)
    return bank.update(part.slots, part.generations, encode(part.rows), step=now)
