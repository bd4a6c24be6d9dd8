"""How old a row may be, and whether there may be a memory at all, by measured fidelity."""

import torch
from torch import Tensor, nn

from torchbank.drift._monitor import DriftMonitor
from torchbank.errors import BankValueError

# A difference in fidelity below this is noise: to throw rows away for it costs more than they do.
_AS_GOOD = 0.05


class FreshnessGate(nn.Module):
    """The age up to which rows still pull the right way, as a tensor that reads take as ``max_age=``.

    `follow` opens the gate when the gradient of the rows, old as they are, has a fidelity of ``floor`` to that of a
    memory that never ages (`DriftMonitor.measure`). Until then the limit is -1 and nothing is read: an encoder that has
    just begun moves too fast for its rows to be of use. Then old rows are left out only where the gradient is better
    without them: the limit is the oldest at which a memory that forgets what is older has a fidelity within 0.05 of the
    best. The gate closes again only where the gradient of any memory misleads, for one that has just begun shakes the
    encoder a while.

    All state is in ``state_dict()``.

    Args:
        floor: The fidelity at which it opens, in (-1, 1).
        device: Where the limit lies.

    Attributes:
        limit: 0-d float64, the oldest age that is read; infinite where no row is better left out.

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
            return
        oldest = int((fidelity >= fidelity.max() - _AS_GOOD).nonzero().max())
        self.limit.fill_(float(ages[oldest]) if oldest < len(ages) - 1 else torch.inf)

    @property
    def is_open(self) -> bool:
        """Whether any row is read. Waits for the device."""
        return bool(self.limit >= 0)

    def extra_repr(self) -> str:
        """The setting, for ``repr``."""
        return f"floor={self.floor:g}"
