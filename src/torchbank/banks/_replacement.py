"""The replacement rule of a bank: which slots does this batch take?"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from torchbank.banks._view import BankView
from torchbank.errors import BankStateError


class Replacement(nn.Module, ABC):
    """Decides which row of a bank gives way; everything else is the bank's.

    A rule answers one question, `slots`. Fields, stamps, generations, reads, state, files and ``torch.compile``
    come with the bank that uses it. It is a module so that what it has to remember are buffers: registered in
    its ``__init__``, they are saved, loaded and moved with the bank. Change them in place and only in `slots`.

    To work on any device and under ``torch.compile(fullgraph=True)`` a rule is written as tensor operations
    whose shapes do not depend on values. The other methods have a default that suits most rules.

    Attributes:
        inputs: Arguments that ``push`` takes for this rule beside the fields; they are not stored, and `slots`
            finds them among the fields of the incoming rows.
        merges_duplicates: `merge` gives all rows of a batch that take one slot the same embedding, so that
            each of them counts as written.
        looks_at_rows: Whether `slots` depends on what the bank holds, and not on its capacity alone. Such a bank
            cannot be sharded: no rank holds all of its rows.

    Example:
        Keep the row only where the new one is longer than what the slot holds:

        >>> import torch, torchbank as tb
        >>> class Longest(tb.banks.Replacement):
        ...     inputs = ("keys",)
        ...     def slots(self, rows, stored, total):
        ...         keys = rows.fields["keys"]
        ...         longer = rows.embeddings.norm(dim=1) > stored.embeddings[keys].norm(dim=1)
        ...         return torch.where(longer, keys, -1)
        >>> class LongestBank(tb.Bank):
        ...     def __init__(self, capacity, dim, **storage):
        ...         super().__init__(capacity, dim, replacement=Longest(), **storage)
        ...     def options(self):
        ...         return {}
        >>> bank = LongestBank(2, 1, metric="dot")
        >>> bank.push(torch.tensor([[3.0], [5.0]]), keys=torch.tensor([0, 1])).tolist()
        [0, 1]
        >>> bank.push(torch.tensor([[4.0], [4.0]]), keys=torch.tensor([0, 1])).tolist()
        [0, -1]
    """

    inputs: tuple[str, ...] = ()
    merges_duplicates: bool = False
    looks_at_rows: bool = True

    @abstractmethod
    def slots(self, rows: BankView, stored: BankView, total: Int64[Tensor, ""]) -> Int64[Tensor, " batch"]:
        """The slot that each incoming row takes.

        Args:
            rows: The incoming rows: embeddings as they will be stored, fields and inputs, stamps, and ``valid``
                ``(batch,)``, False for a row that was refused (never on the CPU, where that is an error).
            stored: Everything that the bank holds, one row for each slot; ``valid`` is False where it is empty.
            total: How many rows the bank has taken before.

        Returns:
            ``(batch,)`` int64: a slot, -1 for a row that is not kept, -2 for one that is bad input and counts as
            rejected. If several rows give the same slot, the last of them is stored.
        """

    def merge(
        self,
        rows: BankView,
        slots: Int64[Tensor, " batch"],  # noqa: ARG002
        stored: BankView,  # noqa: ARG002
    ) -> Float[Tensor, "batch dim"]:
        """The embeddings to store, in the dtype of the bank: by default the incoming ones as they are."""
        return rows.embeddings

    def span(self, total: Int64[Tensor, ""], capacity: int) -> int | None:  # noqa: ARG002
        """Where the next run of slots starts, for a rule that always takes consecutive slots and then slot 0 again.

        Used on the CPU only, where it lets a push copy slices; `slots` must give the same answer.
        """
        return None

    def filled(self, total: Int64[Tensor, ""], capacity: int) -> Int64[Tensor, ""] | None:  # noqa: ARG002
        """How many rows there are, for a rule that fills slots 0, 1, 2, ...; None if they may lie anywhere."""
        return None

    def order(self, stored: BankView, total: Int64[Tensor, ""]) -> Int64[Tensor, " rows"]:  # noqa: ARG002
        """The slots that hold a row, oldest first: by default by stamp, then by slot."""
        slots = stored.valid.nonzero().squeeze(1)
        return slots[stored.steps[slots].argsort(stable=True)]

    def resize(
        self,
        rows: BankView,
        slots: Int64[Tensor, " rows"],
        empty: BankView,
        total: Int64[Tensor, ""],
    ) -> Int64[Tensor, " rows"]:
        """Where rows go that were stored by a bank of another capacity; adapts the rule's own buffers.

        By default the rows are pushed again, oldest first, which a rule without buffers allows.

        Args:
            rows: The stored rows, oldest first.
            slots: Where they lay.
            empty: The bank that takes them, holding nothing.
            total: How many rows the other bank had taken.

        Returns:
            The slot of each row in the new bank, -1 for a row that is dropped.

        Raises:
            BankStateError: The rule has buffers and does not define this method.
        """
        if next(self.buffers(), None) is not None:
            msg = (
                f"{type(self).__name__} does not say how {len(slots)} rows move into a capacity of "
                f"{len(empty.steps)}; load into a bank of the same capacity, or define {type(self).__name__}.resize"
            )
            raise BankStateError(msg)
        return self.slots(rows, empty, torch.zeros_like(total))
