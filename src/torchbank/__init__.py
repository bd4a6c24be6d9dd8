"""Memory banks for PyTorch."""

from torchbank import banks, errors, io, reads
from torchbank.banks import Bank, BankView, KeyedMemoryBank, MemoryBank, ReservoirMemoryBank, Rows
from torchbank.io import load

__all__ = [
    "Bank",
    "BankView",
    "KeyedMemoryBank",
    "MemoryBank",
    "ReservoirMemoryBank",
    "Rows",
    "banks",
    "errors",
    "io",
    "load",
    "reads",
]
__version__ = "0.1.0"
