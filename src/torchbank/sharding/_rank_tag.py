"""Buffers that DDP leaves alone, and how a bank notices that they were not."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from torchbank.banks import Bank
from torchbank.errors import BankStateError
from torchbank.sharding._collectives import Ranks

Module = TypeVar("Module", bound=nn.Module)

_TAG, _LIST = "rank_tag", "_ddp_params_and_buffers_to_ignore"


def keep_local(model: Module) -> Module:
    """Tell ``DistributedDataParallel`` to leave the banks in a model alone; call it before wrapping.

    DDP copies the buffers of rank 0 over those of the other ranks when it wraps a module and, by default, at each
    forward pass. Of a bank that costs its size in traffic, and every rank is left with the rows of rank 0.

    Args:
        model: What will be wrapped, with all of its banks in it, shared ones already so.

    Returns:
        The model.

    Example:
        >>> import torch, torchbank as tb
        >>> model = torch.nn.Linear(2, 2)
        >>> model.bank = tb.MemoryBank(8, 2)
        >>> model = tb.sharding.keep_local(model)  # then torch.nn.parallel.DistributedDataParallel(model)
    """
    names = [
        f"{place}.{name}" if place else name
        for place, module in model.named_modules()
        if isinstance(module, Bank)
        for name, _ in module.named_buffers()
    ]
    # DDP keeps one list, which others may have begun.
    known = getattr(model, _LIST, ())
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, [*known, *names])
    return model


def tag(bank: Any, ranks: Ranks) -> None:
    """Mark a bank as this rank's: what overwrites its buffers by rank 0's overwrites the mark too."""
    # Not persistent: it tells of the process, not of the rows.
    bank.register_buffer(_TAG, torch.full((), ranks.rank, device=bank.device), persistent=False)
    bank.pushes_seen = 0
    bank.register_state_dict_pre_hook(_check_before_state)


def check_tag(bank: Any) -> None:
    """Raise if the bank was overwritten by another rank's.

    On a GPU the mark is looked at every second, fourth, eighth ... push only, as looking waits for the device.

    Raises:
        BankStateError: It was.
    """
    mark: Tensor = bank.rank_tag
    if not mark.is_cpu:
        bank.pushes_seen += 1
        if bank.pushes_seen & (bank.pushes_seen - 1) or bank.pushes_seen == 1:
            return
    _compare(mark, bank.ranks)


def _check_before_state(bank: Any, *_: Any) -> None:
    _compare(bank.rank_tag, bank.ranks)


def _compare(mark: Tensor, ranks: Ranks) -> None:
    if not mark.is_meta and int(mark) != ranks.rank:
        msg = (
            f"the bank of rank {ranks.rank} holds the buffers of rank {int(mark)}: DistributedDataParallel has copied "
            "them over. Call torchbank.sharding.keep_local(model) before wrapping the model, or keep the bank out of it"
        )
        raise BankStateError(msg)
