"""Do all ranks have the same bank? A description that is compared as text, and a checksum of what it holds."""

import json
from typing import Any

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from torchbank.banks import Bank
from torchbank.errors import BankStateError
from torchbank.reads import passing
from torchbank.sharding._collectives import Ranks
from torchbank.sharding._shared import SharedBank

# Any odd number with bits all over will do.
_MIX = 0x9E3779B97F4A7C15 - (1 << 64)
_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def checksum(bank: Bank) -> int:
    """A number that changes with any bit of what a bank holds, its place included; waits for the device.

    The sum modulo 2^64 of every number's bits times one plus its place in its column, mixed. Two banks with the
    same state have the same checksum on any device.

    Args:
        bank: Any bank; of a sharded one, this rank's part.

    Example:
        >>> import torch, torchbank as tb
        >>> one, other = tb.MemoryBank(8, 2), tb.MemoryBank(8, 2)
        >>> tb.sharding.checksum(one) == tb.sharding.checksum(other)
        True
        >>> _ = one.push(torch.ones(1, 2))
        >>> tb.sharding.checksum(one) == tb.sharding.checksum(other)
        False
    """
    return _checksum(bank.state_dict())


def check_replicas(bank: SharedBank) -> None:
    """Raise unless all ranks have the same rows, or of a sharded bank the same counters and rule.

    A rank sends 8 bytes, and reads its bank once.

    Args:
        bank: From `torchbank.replicate` or `torchbank.shard`, on all ranks at the same time.

    Raises:
        BankStateError: A rank has other rows than rank 0; the message names the first.
    """
    _compare("holds other rows", str(_checksum(bank.common_state())), bank.device, bank.ranks)


def check_agreement(bank: Bank, ranks: Ranks, device: torch.device) -> None:
    """Raise unless the banks that are to be shared are the same, and are not shared yet.

    Args:
        bank: This rank's.
        ranks: Who will share it.
        device: Where its rows will lie.

    Raises:
        BankStateError: They are not.
        BankValueError: The ranks cannot talk about tensors on the device.
    """
    if isinstance(bank, SharedBank):
        msg = "the bank is shared by ranks already; give replicate or shard a bank as it was built or loaded"
        raise BankStateError(msg)
    ranks.check_device(device)
    _compare("has another bank", _description(bank, device), device, ranks)
    if not bank.total.is_meta:
        _compare("holds other rows at the start", str(checksum(bank)), device, ranks)


def _description(bank: Bank, device: torch.device) -> str:
    schema = bank.schema
    facts: dict[str, Any] = {
        "class": type(bank).__name__,
        "capacity": schema.capacity,
        "dim": schema.dim,
        "metric": schema.metric,
        "dtype": str(schema.dtype),
        "fields": {name: [str(field.dtype), *field.shape] for name, field in schema.fields.items()},
        "device": device.type,
    }
    return json.dumps(facts)


def _compare(difference: str, own: str, device: torch.device, ranks: Ranks) -> None:
    texts = ranks.texts(own, device)
    for rank, text in enumerate(texts):
        if text != texts[0]:
            msg = (
                f"rank {rank} {difference} than rank 0: {text} and {texts[0]}; build, seed and load the bank alike on "
                "all ranks, and push under the same steps"
            )
            raise BankStateError(msg)


def _checksum(state: dict[str, Tensor]) -> int:
    total = 0
    for _, column in sorted(state.items()):
        total = total * _MIX + _sum_of(column if column.ndim else column[None])
    return total % (1 << 64)


def _sum_of(column: Shaped[Tensor, "rows ..."]) -> int:
    total: Int64[Tensor, ""] = torch.zeros((), dtype=torch.int64, device=column.device)
    for run in passing(column):
        numbers = column[run].contiguous().view(_NUMBERS[column.element_size()]).to(torch.int64).flatten()
        first = run.start * column[0].numel()
        places = torch.arange(first + 1, first + 1 + len(numbers), device=column.device)
        total += (numbers * (2 * places * _MIX + 1)).sum()
    return int(total)
