"""How old a row may be, and whether there may be a memory at all, by measured fidelity."""

import torch
from torch import Tensor, nn

from torchbank.drift._monitor import DriftMonitor
from torchbank.errors import BankValueError


class FreshnessGate(nn.Module):
    """The age up to which rows still pull the right way, as a tensor that reads take as ``max_age=``.

    `follow` sets it to the age at which the recent gradient fidelity falls below ``floor``. Until something was
    measured it is -1, and nothing is read: an encoder that has just begun moves too fast for its rows to be of use.

    All state is in ``state_dict()``.

    Args:
        floor: The lowest fidelity that is let through, in (-1, 1).
        device: Where the limit lies.

    Attributes:
        limit: 0-d float64, the oldest age that is read; infinite where no age that was measured is too old.

    Raises:
        BankValueError: ``floor`` is out of range.

    Example:
        >>> import torch
        >>> import torchbank as tb
        >>> from torchbank.drift import FreshnessGate
        >>> gate, bank = FreshnessGate(), tb.MemoryBank(100, 8)
        >>> _ = bank.push(torch.randn(100, 8))
        >>> bank.attend(torch.randn(1, 8), scale=5.0, max_age=gate.limit).lse  # closed: nothing is read
        tensor([-inf])
    """

    limit: Tensor

    def __init__(self, *, floor: float = 0.3, device: torch.device | str | None = None) -> None:
        super().__init__()
        if not -1 < floor < 1:
            msg = f"floor is {floor}; expected a fidelity between -1 (rows that mislead) and 1 (rows as good as new)"
            raise BankValueError(msg)
        self.floor = floor
        self.register_buffer("limit", torch.full((), -1.0, dtype=torch.float64, device=device))

    def follow(self, monitor: DriftMonitor) -> None:
        """Take over what a monitor has measured lately. Waits for the device.

        Args:
            monitor: After `DriftMonitor.measure`.
        """
        if len(monitor.recent_fidelity()[0]):
            self.limit.fill_(monitor.age_within(fidelity=self.floor))

    def extra_repr(self) -> str:
        """The setting, for ``repr``."""
        return f"floor={self.floor:g}"
