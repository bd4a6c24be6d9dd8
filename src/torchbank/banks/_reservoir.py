"""A uniform sample of everything that was ever pushed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from torchbank.banks._bank import Bank
from torchbank.banks._replacement import Replacement
from torchbank.banks._schema import FieldDeclaration
from torchbank.banks._view import BankView
from torchbank.banks._writing import NOT_KEPT
from torchbank.errors import BankTypeError, BankValueError


class Reservoir(Replacement):
    """Algorithm R: row number t takes slot ``random(t) % (t + 1)`` if there is such a slot.

    The random number is a hash of the seed and t, not the next of a stream: it does not depend on how rows were
    batched, needs no state, and is the same on every rank and device and under ``torch.compile``.
    """

    seed: Tensor
    limit: Tensor
    looks_at_rows = False

    def __init__(self, capacity: int, seed: int) -> None:
        super().__init__()
        self.register_buffer("seed", torch.tensor(seed))
        # Slots in use: the capacity, or less in a bank that a smaller one was loaded into.
        self.register_buffer("limit", torch.tensor(capacity))

    def slots(self, rows: BankView, stored: BankView, total: Int64[Tensor, ""]) -> Int64[Tensor, " batch"]:  # noqa: ARG002
        """The first rows in order, then each row of number t with probability ``limit / (t + 1)``."""
        number = (total + rows.valid.cumsum(0) - 1).clamp_min(0)
        slots = torch.where(number < self.limit, number, counter_hash(self.seed, number) % (number + 1))
        return torch.where(slots < self.limit, slots, NOT_KEPT)

    def filled(self, total: Int64[Tensor, ""], capacity: int) -> Int64[Tensor, ""] | None:  # noqa: ARG002
        """The reservoir fills from slot 0 up to its limit."""
        return torch.minimum(total, self.limit)

    def resize(
        self,
        rows: BankView,  # noqa: ARG002
        slots: Int64[Tensor, " rows"],
        empty: BankView,
        total: Int64[Tensor, ""],
    ) -> Int64[Tensor, " rows"]:
        """A uniform subsample of the rows, or all of them.

        Rows that a smaller bank has turned away cannot be drawn again. A larger bank that takes its rows goes on
        with as many as there were, since new rows in further slots would be more likely than old ones.
        """
        count, capacity = slots.shape[0], empty.steps.shape[0]
        self.limit.fill_(capacity if int(total) == count else min(count, capacity))
        if count <= capacity:
            return slots
        # A draw of its own: what decided which rows are here must not decide which of them stay.
        draw = counter_hash(self.seed ^ total, slots ^ RESIZE_STREAM)
        staying = draw.argsort()[:capacity].sort().values
        return torch.full_like(slots, NOT_KEPT).index_copy_(0, staying, torch.arange(capacity, device=slots.device))


class ReservoirMemoryBank(Bank):
    """A uniform sample, without replacement, of all rows that were ever pushed.

    [Vitter 1985, algorithm R](https://doi.org/10.1145/3147.3165): after T rows each of them is in the bank with
    probability ``min(1, capacity / T)``. Which rows those are depends on the seed and the order of the rows, not
    on the batch sizes. Loading into a smaller capacity draws a uniform subsample; a bank that has turned rows
    away keeps its number of rows in a larger capacity, because more would not be uniform.

    Args:
        capacity: How many rows the bank holds.
        dim: Length of an embedding.
        seed: Which sample is drawn.
        fields: What is stored beside each embedding: ``{"label": torch.int64}`` or, with a shape per row,
            ``{"box": (torch.float32, (4,))}``.
        metric: ``"cosine"`` (rows and queries are L2-normalised), ``"dot"`` or ``"euclidean"`` (``nearest`` only).
        dtype: Of the rows: ``torch.float32``, ``torch.bfloat16`` or ``torch.float16``. Fixed from here on.
        device: Where the bank lies; moves with ``.to(device)``.
        storage: Where its rows lie: ``"module"``, on the device; ``"host"``, in host memory, read block by block; or
            the path of a new file, for a bank larger than memory. See `Bank`.

    Raises:
        BankValueError: A size, metric, field name or the seed is out of range.
        BankFileExistsError: The path of ``storage`` is taken.
        BankFileError: The file of ``storage`` cannot be created, or the disk has no space for it.
        BankTypeError: A size, dtype, field declaration or the seed is of the wrong type.

    Example:
        >>> import torch, torchbank as tb
        >>> bank = tb.ReservoirMemoryBank(4, 1, metric="dot")
        >>> _ = bank.push(torch.arange(10_000.0)[:, None])
        >>> len(bank), bank.total_pushed
        (4, 10000)
    """

    def __init__(
        self,
        capacity: int,
        dim: int,
        *,
        seed: int = 0,
        fields: Mapping[str, FieldDeclaration] | None = None,
        metric: str = "cosine",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        storage: str | Path = "module",
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int):
            msg = f"seed is {seed!r}; expected an int"
            raise BankTypeError(msg)
        if not 0 <= seed < 2**63:
            msg = f"seed is {seed}; expected 0 to 2**63 - 1"
            raise BankValueError(msg)
        super().__init__(
            capacity,
            dim,
            fields=fields,
            metric=metric,
            dtype=dtype,
            device=device,
            storage=storage,
            replacement=Reservoir(capacity, seed),
        )

    def options(self) -> dict[str, Any]:
        """``seed``."""
        return {"seed": int(self.replacement.get_buffer("seed"))}


def _signed(word: int) -> int:
    """A 64-bit word as the int64 of the same bits."""
    return word - (1 << 64) if word >= 1 << 63 else word


# Constants of SplitMix64 (Steele, Lea and Flood 2014, https://doi.org/10.1145/2660193.2660195).
GOLDEN_GAMMA = _signed(0x9E3779B97F4A7C15)
FIRST_MULTIPLIER = _signed(0xBF58476D1CE4E5B9)
SECOND_MULTIPLIER = _signed(0x94D049BB133111EB)
# Any word will do that row numbers do not reach.
RESIZE_STREAM = 1 << 62


def counter_hash(seed: Int64[Tensor, ""], number: Int64[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
    """Random integers in ``[0, 2**63)``: output ``number`` of SplitMix64 whose state starts at the hashed seed."""
    return _finish(_finish(seed) + (number + 1) * GOLDEN_GAMMA) & (2**63 - 1)


def _finish(word: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """The finalizer of SplitMix64; products wrap around 2**64."""
    word = (word ^ _shift_right(word, 30)) * FIRST_MULTIPLIER
    word = (word ^ _shift_right(word, 27)) * SECOND_MULTIPLIER
    return word ^ _shift_right(word, 31)


def _shift_right(word: Int64[Tensor, "..."], bits: int) -> Int64[Tensor, "..."]:
    """A logical shift: int64 shifts in copies of the sign, which are masked away."""
    return (word >> bits) & ((1 << (64 - bits)) - 1)
