"""A memory that begins full of random directions, as some papers' do."""

from typing import Any

import torch
from torch.nn.functional import normalize

from torchbank.banks import Bank
from torchbank.methods._step_generator import step_generator

_ROWS_A_PUSH = 65_536
# Beside the streams that steps draw from.
_STREAM = 1_000


def fill_with_random_rows(bank: Bank, seed: int, *, keyed: bool = False) -> None:
    """Push uniformly random unit vectors until every slot is taken.

    Args:
        bank: An empty bank: a ring without fields, or a keyed one with the field ``id``.
        seed: Of the run.
        keyed: Whether each row has a key, which is its id.
    """
    generator = step_generator(seed, 0, _STREAM)
    for keys in torch.arange(bank.capacity).split(_ROWS_A_PUSH):
        rows = normalize(torch.randn(len(keys), bank.dim, generator=generator), dim=1)
        columns: dict[str, Any] = {"keys": keys, "id": keys} if keyed else {}
        bank.push(rows, step=0, **columns)
