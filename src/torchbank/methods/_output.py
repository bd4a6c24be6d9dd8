"""What a method returns for one batch."""

from typing import NamedTuple

from torch import Tensor


class MethodOutput(NamedTuple):
    """The loss of one step and what to log about it.

    Attributes:
        loss: 0-d, to call ``backward()`` on.
        logs: 0-d tensors by name, detached and still on the device: nothing has waited for it.
    """

    loss: Tensor
    logs: dict[str, Tensor]
