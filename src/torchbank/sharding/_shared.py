"""What replicated and sharded banks share: a push takes the batches of all ranks."""

import types
from abc import abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from jaxtyping import Float, Int64
from torch import Tensor

from torchbank.banks import Bank, check_embeddings, check_handles
from torchbank.sharding._collectives import Ranks
from torchbank.sharding._rank_tag import check_tag

AnyBank = TypeVar("AnyBank", bound=Bank)


class SharedBank(Bank):
    """A bank of several ranks, each of which calls its methods at the same time.

    Attributes:
        ranks: Who shares it.
    """

    is_shared = True
    ranks: Ranks

    def _push(
        self, embeddings: Tensor, given: Mapping[str, Tensor], *, step: int | Tensor | None, check: bool
    ) -> Int64[Tensor, " batch"]:
        """Push the batches of all ranks, in rank order; returns the slots of this rank's own rows.

        A bad row is an error on every rank, which counts the rows of all batches.
        """
        check_tag(self)
        # What is wrong with this rank's batch alone is told before anything is sent.
        columns = self.schema.check_push(embeddings, given, self.device, self.replacement.inputs)
        (everyone, *others), sizes = self.ranks.gather(embeddings, *columns.values())
        slots = super()._push(everyone, dict(zip(columns, others, strict=True)), step=step, check=check)
        return self._own_slots(slots, sizes)

    def _own_slots(self, slots: Int64[Tensor, " everyone"], sizes: list[int]) -> Int64[Tensor, " batch"]:
        return slots.split(sizes)[self.ranks.rank]

    def update(
        self, slots: Tensor, generations: Tensor, embeddings: Tensor, *, step: int | Tensor | None = None
    ) -> Int64[Tensor, ""]:
        """Write new embeddings of rows that are still where they were; see `Bank.update`.

        Each rank gives what it has encoded, as many rows as it likes, none too; they travel as float32. Waits for the
        device.

        Returns:
            0-d int64: how many rows of all ranks were stale and not written.
        """
        return super().update(*self._updates_of_all(slots, generations, embeddings), step=step)

    def _updates_of_all(self, slots: Tensor, generations: Tensor, embeddings: Tensor) -> list[Tensor]:
        check_tag(self)
        # What is wrong with what this rank gives is told before anything is sent.
        check_embeddings(embeddings, self.dim, self.device)
        check_handles(slots, generations, embeddings.shape[0], self.capacity)
        # A rank that has none does not know the dtype of the others.
        return self.ranks.gather(slots, generations, embeddings.detach().float(), uneven=True).columns

    def of_all_ranks(self, numbers: Float[Tensor, " n"]) -> Float[Tensor, "ranks n"]:
        """See `Bank.of_all_ranks`; a rank sends the bytes of its numbers."""
        return self.ranks.gather(numbers[None].to(self.device)).columns[0]

    @abstractmethod
    def common_state(self) -> dict[str, Tensor]:
        """The part of ``state_dict()`` that is the same on all ranks."""

    def extra_repr(self) -> str:
        """That of the bank, and how many ranks share it."""
        return f"{super().extra_repr()}, ranks={self.ranks.size}"


@cache
def shared_class(mixin: type[SharedBank], kind: type[AnyBank]) -> type[AnyBank]:
    """A class of banks that is shared: still a ``kind``, and under its name, which files bear."""
    return types.new_class(kind.__name__, (mixin, kind), {"registered": False}, _with_module_of(kind))


def _with_module_of(kind: type) -> Any:
    def fill(namespace: dict[str, Any]) -> None:
        namespace["__module__"] = kind.__module__
        namespace["__doc__"] = kind.__doc__

    return fill
