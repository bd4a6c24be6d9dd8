"""Counts what a rank receives from the others, at the door of ``torch.distributed``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, distributed


@dataclass
class Traffic:
    """What went between ranks.

    Attributes:
        received: Bytes that this rank got from the others.
        reduced: Bytes of the tensors that were summed over all ranks.
        messages: Collectives that were called.
    """

    received: int = 0
    reduced: int = 0
    messages: int = 0


@contextmanager
def counted() -> Iterator[Traffic]:
    """Count while the block runs."""
    traffic, others = Traffic(), distributed.get_world_size() - 1
    names = ("all_gather", "all_to_all_single", "all_reduce")
    originals = {name: getattr(distributed, name) for name in names}

    def all_gather(outputs: list[Tensor], own: Tensor, **how: Any) -> Any:
        traffic.received += sum(output.nbytes for output in outputs) - own.nbytes
        traffic.messages += 1
        return originals["all_gather"](outputs, own, **how)

    def all_to_all_single(output: Tensor, *given: Any, **how: Any) -> Any:
        traffic.received += output.nbytes * others // (others + 1)
        traffic.messages += 1
        return originals["all_to_all_single"](output, *given, **how)

    def all_reduce(values: Tensor, *given: Any, **how: Any) -> Any:
        traffic.reduced += values.nbytes
        traffic.messages += 1
        return originals["all_reduce"](values, *given, **how)

    for replaced in (all_gather, all_to_all_single, all_reduce):
        setattr(distributed, replaced.__name__, replaced)
    try:
        yield traffic
    finally:
        for name, original in originals.items():
            setattr(distributed, name, original)


def traffic_of(action: Callable[[], object]) -> Traffic:
    """What goes between ranks during a call."""
    with counted() as traffic:
        action()
    return traffic


def received(action: Callable[[], object]) -> int:
    """The bytes that this rank gets from the others during a call."""
    return traffic_of(action).received
