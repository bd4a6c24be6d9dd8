"""Counts what a rank receives from the others, at the door of ``torch.distributed``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, distributed


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Count the bytes and messages that this rank gets from the others while the block runs."""
    counts = {"bytes": 0, "messages": 0}
    others = distributed.get_world_size() - 1
    originals = distributed.all_gather, distributed.all_to_all_single

    def all_gather(outputs: list[Tensor], own: Tensor, **how: Any) -> Any:
        counts["bytes"] += others * own.nbytes
        counts["messages"] += 1
        return originals[0](outputs, own, **how)

    def all_to_all_single(output: Tensor, *given: Any, **how: Any) -> Any:
        counts["bytes"] += output.nbytes * others // (others + 1)
        counts["messages"] += 1
        return originals[1](output, *given, **how)

    distributed.all_gather, distributed.all_to_all_single = all_gather, all_to_all_single
    try:
        yield counts
    finally:
        distributed.all_gather, distributed.all_to_all_single = originals


def received(action: Callable[[], object]) -> int:
    """The bytes that this rank gets from the others during a call."""
    with counted() as counts:
        action()
    return counts["bytes"]
