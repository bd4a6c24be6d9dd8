"""Encode the stalest rows of a memory again, for as long as there is time."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from torchbank.banks import Bank, BankView
from torchbank.errors import BankStateError, BankValueError

Encode = Callable[[BankView], Tensor]
"""Encodes rows again: a view of them, with fields that tell what they are, to embeddings ``(rows, dim)``."""


class Refreshed(NamedTuple):
    """What a `refresh` did.

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

    Args:
        bank: The memory.
        encode: ``encode(rows)`` gives embeddings of the rows it is shown, say of the images that
            ``rows.fields["id"]`` names.
        seconds: The budget, above 0.
        step: Now, the stamp of what is written; None is the latest stamp of the bank.
        batch_size: Rows that are encoded together.

    Returns:
        `Refreshed`.

    Raises:
        BankValueError: The budget is not above 0 or ``batch_size`` not 1 or more; what ``encode`` gives does not
            fit, or is not finite.
        BankStateError: Several ranks share the bank.

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
    if bank.is_shared:
        msg = "refresh stops by the clock, on each rank that shares this bank at another row; refresh it before sharing"
        raise BankStateError(msg)
    now = int(bank.clock) if step is None else step
    view = bank.view()
    slots = view.valid.nonzero().squeeze(1)
    slots = slots[view.steps[slots].argsort(stable=True)].to(bank.device)
    written, stale, last = 0, 0, 0.0
    begin = time.perf_counter()
    for part in slots.split(batch_size):
        before = time.perf_counter()
        if written + stale and before - begin + last > seconds:
            break
        generations = bank.generations[part.to(bank.generations.device)].to(part.device)
        lost = int(bank.update(part, generations, encode(bank.gather(part)), step=now))
        written, stale, last = written + len(part) - lost, stale + lost, time.perf_counter() - before
    ages = bank.age(now)[bank.view().valid.to(bank.device)]
    return Refreshed(written, stale, int(ages.max()) if len(ages) else 0)
