"""The end of a run whose loss or weights are no longer numbers."""

import torch
from torch import Tensor, nn

from torchbank.errors import BankStateError

# Above any step.
_NEVER = 2**62


class LossWatch:
    """Remembers the first step at which the loss was not finite, without waiting for the device.

    Attributes:
        checkpoint: The step of the last checkpoint, for the message; None where there is none.

    Example:
        >>> import torch
        >>> from torchbank.training import LossWatch
        >>> watch = LossWatch()
        >>> watch.add(torch.tensor(1.5), step=1)
        >>> watch.add(torch.tensor(torch.nan), step=2)
        Traceback (most recent call last):
        torchbank.errors.BankStateError: the loss is nan at step 2; lower the learning rate, warm up for longer, or \
train with more precision
    """

    def __init__(self) -> None:
        self.checkpoint: int | None = None
        self._first: Tensor | None = None
        self._loss: Tensor | None = None

    def add(self, loss: Tensor, *, step: int) -> None:
        """Look at the loss of a step.

        Args:
            loss: 0-d.
            step: Its number, counted from 1.

        Raises:
            BankStateError: It is not finite. On a device that must be waited for, `check` raises instead.
        """
        loss = loss.detach()
        first = torch.where(loss.isfinite(), _NEVER, step)
        if self._first is None or self._loss is None:
            self._first, self._loss = first, loss.clone()
        else:
            self._loss = torch.where(first < self._first, loss, self._loss)
            self._first = torch.minimum(first, self._first)
        if loss.device.type == "cpu":
            self.check()

    def check(self) -> None:
        """Wait for the device and look at all steps so far.

        Raises:
            BankStateError: The loss of one was not finite; the message tells which.
        """
        if self._first is not None and self._loss is not None and int(self._first) < _NEVER:
            msg = f"the loss is {self._loss.item()} at step {int(self._first)}; {self._advice()}"
            raise BankStateError(msg)

    def check_weights(self, method: nn.Module, *, step: int) -> None:
        """Wait for the device and look at all weights that learn.

        Args:
            method: What is trained.
            step: Updates made so far.

        Raises:
            BankStateError: Some are not finite; the message names the first.
        """
        for name, parameter in method.named_parameters():
            if parameter.requires_grad and not parameter.isfinite().all():
                msg = f"the weights {name!r} are not finite after step {step}, though the loss is; {self._advice()}"
                raise BankStateError(msg)

    def _advice(self) -> str:
        kept = "" if self.checkpoint is None else f"; the checkpoint of step {self.checkpoint} is kept"
        return f"lower the learning rate, warm up for longer, or train with more precision{kept}"
