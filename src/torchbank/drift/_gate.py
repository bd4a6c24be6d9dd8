"""How old a row may be, and whether there may be a memory at all, by measured fidelity."""

import torch
from torch import Tensor, nn

from torchbank.drift._monitor import DriftMonitor
from torchbank.errors import BankValueError

# Fidelities that differ by less are taken to be alike: measured on a thousand pairs, they are not more exact.
_ALIKE = 0.02


class FreshnessGate(nn.Module):
    """The age up to which rows still pull the right way, as a tensor that reads take as ``max_age=``.

    `follow` sets it to the age that a memory should forget at: the one whose rows, old as they are, give the gradient
    closest to that of a memory that never ages (`DriftMonitor.measure`). More rows tell more, older rows tell worse;
    where ages differ by less than 0.02 the greatest is taken, and what is older than all that was measured is not
    trusted. The limit is -1, and nothing is read, until that gradient has a fidelity of ``floor``: an encoder that has
    just begun moves too fast for its rows to be of use. Once open, the gate closes again only where the gradient
    misleads, with a fidelity below 0: a memory that has just begun to take part shakes the encoder for a while.

    All state is in ``state_dict()``.

    Args:
        floor: The fidelity at which it opens, in (-1, 1).
        device: Where the limit lies.

    Attributes:
        limit: 0-d float64, the oldest age that is read.

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
        ages, fidelity = monitor.up_to.by_age()
        if not len(ages) or fidelity.max() < (0 if self.is_open else self.floor):
            self.limit.fill_(-1)
        else:
            self.limit.fill_(ages[fidelity > fidelity.max() - _ALIKE][-1])

    @property
    def is_open(self) -> bool:
        """Whether any row is read. Waits for the device."""
        return bool(self.limit >= 0)

    def extra_repr(self) -> str:
        """The setting, for ``repr``."""
        return f"floor={self.floor:g}"
