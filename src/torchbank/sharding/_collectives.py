"""What ranks say to each other: the only file that calls ``torch.distributed`` during a step.

A rank gives rows and gets those of all ranks in rank order (`Ranks.gather`), or gives an answer for every row of all
ranks and gets the answers for its own (`Ranks.answer`). Several columns travel as one message of bytes.

Axes: batch (rows of one rank), everyone (rows of all ranks, in rank order), ranks.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor, distributed

from torchbank.errors import BankStateError, BankValueError


class Ranks:
    """The processes that share a bank; with no process group it is this one alone, and nothing is sent.

    Args:
        group: The process group; None is that of all processes, or this process alone where there is none.
        uneven: Ranks may bring batches of different sizes, which costs an exchange of sizes on the host. On the CPU
            sizes are exchanged anyway, so that a difference is an error and not a crash.

    Attributes:
        rank: Of this process in the group.
        size: How many there are.
    """

    def __init__(self, group: distributed.ProcessGroup | None = None, *, uneven: bool = False) -> None:
        ready = distributed.is_available() and distributed.is_initialized()
        self.group, self.uneven = group, uneven
        self.rank = distributed.get_rank(group) if ready else 0
        self.size = distributed.get_world_size(group) if ready else 1
        if self.rank < 0:
            msg = "this process is not in the group that is to share the bank; call it on the ranks of the group alone"
            raise BankValueError(msg)

    @classmethod
    def alone(cls) -> "Ranks":
        """This process, whatever groups there are."""
        ranks = cls.__new__(cls)
        ranks.group, ranks.uneven, ranks.rank, ranks.size = None, False, 0, 1
        return ranks

    def __deepcopy__(self, memo: dict[int, Any]) -> "Ranks":
        """A process group is not copied."""
        return self

    def check_device(self, device: torch.device) -> None:
        """Raise unless the ranks can talk about tensors on a device.

        Raises:
            BankValueError: The group has no backend for it.
        """
        if self.size == 1:
            return
        backends = distributed.get_backend_config(self.group)
        if f"{device.type}:" not in backends:
            msg = (
                f"the bank is on {device.type} and the process group has {backends}; move the bank with .to(...), or "
                "give init_process_group a backend for both, such as 'cpu:gloo,cuda:nccl'"
            )
            raise BankValueError(msg)

    def sizes(self, batch: int, device: torch.device, *, uneven: bool) -> list[int]:
        """The batch of every rank.

        Raises:
            BankValueError: They differ, and this was not allowed for.
        """
        if self.size == 1 or not (uneven or device.type == "cpu"):
            return [batch] * self.size
        own = torch.tensor([batch], device=device)
        sizes = torch.cat(self._all_gather(own)).tolist()
        if not uneven and len(set(sizes)) > 1:
            msg = (
                f"the ranks bring {', '.join(map(str, sizes))} rows; expected as many from each: drop the last, short "
                "batch, or allow for it with uneven=True"
            )
            raise BankValueError(msg)
        return sizes

    def gather(self, *columns: Shaped[Tensor, "batch ..."], uneven: bool = False) -> "Gathered":
        """The rows of all ranks, in rank order.

        Args:
            *columns: Of any dtypes and shapes, with as many rows each.
            uneven: Ranks may bring batches of different sizes here, also where they may not otherwise.

        Returns:
            The columns, and how many rows each rank brought.

        Raises:
            BankValueError: Ranks bring batches of different sizes, and this was not allowed for.
            BankStateError: A rank does not answer.
        """
        if self.size == 1:
            return Gathered(list(columns), [len(columns[0])])
        sizes = self.sizes(len(columns[0]), columns[0].device, uneven=uneven or self.uneven)
        packed = _packed(columns)
        # Collectives take equal shapes: a short batch is filled up, and cut again.
        padded = torch.nn.functional.pad(packed, (0, 0, 0, max(sizes) - len(packed)))
        parts = [part[:rows] for part, rows in zip(self._all_gather(padded), sizes, strict=True)]
        return Gathered(_unpacked(torch.cat(parts), columns), sizes)

    def answer(
        self, sizes: list[int], *columns: Shaped[Tensor, "everyone ..."]
    ) -> list[Shaped[Tensor, "ranks batch ..."]]:
        """Return to each rank what was found for its rows; get what all ranks found for one's own.

        Args:
            sizes: How many rows each rank had brought.
            *columns: One answer for each row of all ranks, in rank order.

        Raises:
            BankStateError: A rank does not answer.
        """
        if self.size == 1:
            return [column[None] for column in columns]
        packed, batch = _packed(columns), sizes[self.rank]
        received = packed.new_empty(self.size * batch, packed.shape[1])
        with _naming_the_cause():
            distributed.all_to_all_single(received, packed, [batch] * self.size, sizes, group=self.group)
        return [column.unflatten(0, (self.size, batch)) for column in _unpacked(received, columns)]

    def to_first(self, values: Tensor) -> list[Tensor] | None:
        """A tensor of each rank, of one shape, on the first rank; None on the others."""
        if self.size == 1:
            return [values]
        first = self.rank == 0
        parts = [torch.empty_like(values) for _ in range(self.size)] if first else None
        with _naming_the_cause():
            distributed.gather(values, parts, group=self.group, group_dst=0)
        return parts

    def total(self, value: Tensor) -> Tensor:
        """The sum over all ranks, of any shape."""
        if self.size == 1:
            return value
        value = value.clone()
        with _naming_the_cause():
            distributed.all_reduce(value, group=self.group)
        return value

    def texts(self, text: str, device: torch.device) -> list[str]:
        """A text of each rank, of any lengths; waits for the device."""
        if self.size == 1:
            return [text]
        own = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).to(device)
        lengths = torch.cat(self._all_gather(torch.tensor([len(own)], device=device))).tolist()
        padded = torch.nn.functional.pad(own, (0, max(lengths) - len(own)))
        parts = zip(self._all_gather(padded), lengths, strict=True)
        return [bytes(part[:length].tolist()).decode() for part, length in parts]

    def _all_gather(self, values: Tensor) -> list[Tensor]:
        values = values.contiguous()
        gathered = values.new_empty(self.size, *values.shape).unbind()
        with _naming_the_cause():
            distributed.all_gather(list(gathered), values, group=self.group)
        return list(gathered)


class Gathered(NamedTuple):
    """Rows of all ranks.

    Attributes:
        columns: ``(everyone, ...)`` each.
        sizes: The rows of each rank.
    """

    columns: list[Tensor]
    sizes: list[int]


@contextmanager
def _naming_the_cause() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        msg = (
            f"the ranks could not exchange rows ({error}); one of them has ended, or did not come to the same push or "
            "read before the timeout of the process group. Look for the first error of the other ranks"
        )
        raise BankStateError(msg) from error


def _packed(columns: Sequence[Shaped[Tensor, "rows ..."]]) -> UInt8[Tensor, "rows bytes"]:
    """The columns side by side as bytes, a row a row."""
    rows = len(columns[0])
    return torch.cat([_flat(column, rows).view(torch.uint8) for column in columns], dim=1)


def _flat(column: Shaped[Tensor, "rows ..."], rows: int) -> Shaped[Tensor, "rows numbers"]:
    flat = column.detach().reshape(rows, math.prod(column.shape[1:]))
    # Not ``contiguous()``: a single number of a strided column counts as that, and is no bytes yet.
    return flat if flat.stride(1) == 1 else flat.clone(memory_format=torch.contiguous_format)


def _unpacked(packed: UInt8[Tensor, "rows bytes"], like: Sequence[Tensor]) -> list[Tensor]:
    """The columns that `_packed` made bytes of: dtypes and shapes of rows are those of ``like``."""
    widths = [math.prod(column.shape[1:]) * column.element_size() for column in like]
    # Each column is copied out, as another dtype asks for aligned bytes.
    return [
        part.clone(memory_format=torch.contiguous_format).view(column.dtype).reshape(len(packed), *column.shape[1:])
        for part, column in zip(packed.split(widths, dim=1), like, strict=True)
    ]
