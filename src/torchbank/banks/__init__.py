"""Memory banks: what is stored, and which row is replaced.

`MemoryBank` keeps the newest rows, `KeyedMemoryBank` one row a key, `ReservoirMemoryBank` a uniform sample of all
rows. A bank of your own is a `Bank` with a `Replacement` rule. `Rows` puts plain tensors in the place of a bank.
"""

from torchbank.banks._admission import admit
from torchbank.banks._bank import Bank
from torchbank.banks._doors import (
    check_below,
    check_device,
    check_embeddings,
    check_handles,
    check_int64,
    check_size,
)
from torchbank.banks._keyed import KeyedMemoryBank
from torchbank.banks._placement import parse_storage
from torchbank.banks._reading import Table
from torchbank.banks._replacement import Replacement
from torchbank.banks._reservoir import ReservoirMemoryBank, counter_hash
from torchbank.banks._ring import MemoryBank
from torchbank.banks._rows import Rows
from torchbank.banks._subset import Subset
from torchbank.banks._view import BankView, StaleRows
from torchbank.banks._writing import NOT_KEPT, REFUSED

__all__ = [
    "NOT_KEPT",
    "REFUSED",
    "Bank",
    "BankView",
    "KeyedMemoryBank",
    "MemoryBank",
    "Replacement",
    "ReservoirMemoryBank",
    "Rows",
    "StaleRows",
    "Subset",
    "Table",
    "admit",
    "check_below",
    "check_device",
    "check_embeddings",
    "check_handles",
    "check_int64",
    "check_size",
    "counter_hash",
    "parse_storage",
]
