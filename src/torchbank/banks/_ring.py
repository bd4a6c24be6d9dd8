"""First in, first out: the bank of MoCo, XBM, NNCLR and MaSSL."""

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


class Ring(Replacement):
    """The oldest row gives way: row number t goes to slot ``(t - offset) % capacity``."""

    offset: Tensor
    looks_at_rows = False

    def __init__(self) -> None:
        super().__init__()
        # Rows that were pushed before the bank was last loaded into another capacity, less those it kept.
        self.register_buffer("offset", torch.zeros((), dtype=torch.int64))

    def slots(self, rows: BankView, stored: BankView, total: Int64[Tensor, ""]) -> Int64[Tensor, " batch"]:
        """Consecutive slots; of a batch larger than the bank, the newest rows."""
        capacity = stored.steps.shape[0]
        place = rows.valid.cumsum(0)
        newest = place > rows.valid.sum() - capacity
        return torch.where(newest, (total - self.offset + place - 1) % capacity, NOT_KEPT)

    def span(self, total: Int64[Tensor, ""], capacity: int) -> int | None:
        """The slot after the newest row."""
        return (int(total) - int(self.offset)) % capacity

    def filled(self, total: Int64[Tensor, ""], capacity: int) -> Int64[Tensor, ""] | None:
        """The ring fills from slot 0."""
        return (total - self.offset).clamp_max(capacity)

    def order(self, stored: BankView, total: Int64[Tensor, ""]) -> Int64[Tensor, " rows"]:
        """From the slot that is overwritten next, once the ring is full."""
        capacity = stored.steps.shape[0]
        pushed = int(total) - int(self.offset)
        slots = torch.arange(min(pushed, capacity), device=stored.steps.device)
        return slots if pushed <= capacity else (slots + pushed) % capacity

    def resize(
        self,
        rows: BankView,  # noqa: ARG002
        slots: Int64[Tensor, " rows"],
        empty: BankView,
        total: Int64[Tensor, ""],
    ) -> Int64[Tensor, " rows"]:
        """The newest rows that fit, oldest first from slot 0."""
        count, capacity = slots.shape[0], empty.steps.shape[0]
        kept = min(count, capacity)
        self.offset.copy_(total - kept)
        return (torch.arange(count, device=slots.device) - (count - kept)).clamp_min(NOT_KEPT)


class MemoryBank(Bank):
    """The last ``capacity`` rows that were pushed, oldest overwritten first.

    The dictionary of [He et al. 2020, section 3.1](arXiv:1911.05722) and the memory of
    [Wang et al. 2020, section 3.2](arXiv:1912.06798), exact for every batch size: a batch need not divide the
    capacity, and of a batch larger than the bank the newest rows stay. ``view()`` is the valid prefix.

    Args:
        capacity: How many rows the bank holds.
        dim: Length of an embedding.
        fields: What is stored beside each embedding: ``{"label": torch.int64}`` or, with a shape per row,
            ``{"box": (torch.float32, (4,))}``.
        metric: ``"cosine"`` (rows and queries are L2-normalised), ``"dot"`` or ``"euclidean"`` (``nearest`` only).
        dtype: Of the rows: ``torch.float32``, ``torch.bfloat16`` or ``torch.float16``. Fixed from here on.
        device: Where the bank lies; moves with ``.to(device)``.
        storage: Where its rows lie: ``"module"``, on the device; ``"host"``, in host memory, read block by block; or
            the path of a new file, for a bank larger than memory. See `Bank`.

    Raises:
        BankValueError: A size, metric or field name is out of range.
        BankFileExistsError: The path of ``storage`` is taken.
        BankFileError: The file of ``storage`` cannot be created, or the disk has no space for it.
        BankTypeError: A size, dtype or field declaration is of the wrong type.

    Example:
        >>> import torch, torchbank as tb
        >>> bank = tb.MemoryBank(3, 2, fields={"label": torch.int64}, metric="dot")
        >>> rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]])
        >>> bank.push(rows[:2], label=torch.tensor([1, 2])).tolist()
        [0, 1]
        >>> bank.push(rows[2:], label=torch.tensor([3, 4])).tolist()
        [2, 0]
        >>> bank.ordered().fields["label"].tolist()
        [2, 3, 4]
    """

    def __init__(
        self,
        capacity: int,
        dim: int,
        *,
        fields: Mapping[str, FieldDeclaration] | None = None,
        metric: str = "cosine",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        storage: str | Path = "module",
    ) -> None:
        super().__init__(
            capacity, dim, fields=fields, metric=metric, dtype=dtype, device=device, storage=storage, replacement=Ring()
        )

    def options(self) -> dict[str, Any]:
        """None: a ring is known by its rows."""
        return {}
