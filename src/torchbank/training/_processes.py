"""The processes of one run, as torchrun or ``accelerate launch`` has started them."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from torchbank.training._config import TrainingConfig
from torchbank.training._update import build_accelerator

Found = TypeVar("Found")


def is_main_process() -> bool:
    """Whether this process is the one that writes: the only one, or the first that ``torchrun`` started."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """How many processes ``torchrun`` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def told_by_first(find: Callable[[], Found], config: TrainingConfig) -> Found:
    """What the first process finds, on all of them, each of which calls this at the same time.

    It is for what changes while it is looked at, such as which folder is free. Where the first process ends with an
    error, ``torchrun`` ends the others.

    Args:
        find: Called by the first process; what it returns is pickled.
        config: Says on which device the processes will run.

    Example:
        >>> from torchbank.training import TrainingConfig, told_by_first
        >>> told_by_first(lambda: "runs/demo", TrainingConfig())
        'runs/demo'
    """
    if process_count() == 1:
        return find()
    from accelerate.utils import broadcast_object_list

    # The processes meet when the first accelerator is built.
    build_accelerator(config)
    found: list[Any] = [find() if is_main_process() else None]
    broadcast_object_list(found)
    return found[0]
