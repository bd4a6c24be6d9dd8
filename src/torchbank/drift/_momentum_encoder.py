"""An encoder whose weights trail those of the one being trained, so that what it stores ages slowly."""

import copy
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from torchbank.errors import BankTypeError, BankValueError, check_choice

Buffers = Literal["copy", "average"]
Schedule = Literal["constant", "cosine"]


class MomentumEncoder(nn.Module):
    """A copy of an encoder that follows it by an exponential moving average and never gets a gradient.

    After each `update`, ``parameter <- momentum * parameter + (1 - momentum) * online``
    ([He et al. 2020, eq. 2](arXiv:1911.05722)), in place, in the copy's own dtype. Follow an encoder in
    bfloat16 by a copy in float32, ``MomentumEncoder(encoder).float()``: bfloat16 would round steps of
    1 - 0.999 away.

    The copy starts in the encoder's mode and then follows ``train()`` and ``eval()`` like any module. MoCo's
    key encoder runs in train mode, normalising by each batch's statistics; call ``eval()`` on the copy,
    after any ``train()`` on a module that holds it, to use running statistics.

    Args:
        encoder: The online encoder; deep-copied, not kept.
        momentum: The share of the old weights that stays at each update, in [0, 1]. 0.999 is MoCo's.
        buffers: What happens to float buffers such as running statistics: ``"copy"`` takes the online ones,
            ``"average"`` averages them like parameters. Buffers that are not floating are always copied.
        schedule: ``"constant"``, or ``"cosine"`` to raise momentum to 1 over ``total_steps``
            ([Grill et al. 2020, sec. 3.3](arXiv:2006.07733)).
        total_steps: The updates over which the cosine runs.

    Raises:
        BankValueError: Momentum is out of range, a word is unknown, or ``total_steps`` is not what the
            schedule needs.
        BankTypeError: ``encoder`` is not a module.

    Example:
        >>> import torch
        >>> from torchbank.drift import MomentumEncoder
        >>> online = torch.nn.Linear(2, 2)
        >>> teacher = MomentumEncoder(online, momentum=0.9)
        >>> before = teacher.encoder.bias.clone()
        >>> _ = torch.nn.init.ones_(online.bias)
        >>> teacher.update(online)
        >>> torch.allclose(teacher.encoder.bias, 0.9 * before + 0.1)
        True
        >>> teacher(torch.zeros(1, 2)).requires_grad
        False
    """

    updates: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        *,
        momentum: float = 0.999,
        buffers: Buffers = "copy",
        schedule: Schedule = "constant",
        total_steps: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, nn.Module):
            msg = f"encoder is a {type(encoder).__name__}; expected a torch.nn.Module"
            raise BankTypeError(msg)
        if not 0 <= momentum <= 1:
            msg = f"momentum={momentum} is out of range; expected a share between 0 (copy) and 1 (never move)"
            raise BankValueError(msg)
        check_choice("buffers", buffers, *get_args(Buffers))
        check_choice("schedule", schedule, *get_args(Schedule))
        if schedule == "constant" and total_steps is not None:
            msg = f"total_steps={total_steps} belongs to schedule='cosine'; drop it or choose that schedule"
            raise BankValueError(msg)
        if schedule == "cosine" and (total_steps is None or total_steps < 1):
            msg = f"schedule='cosine' with total_steps={total_steps}; give the number of updates, 1 or more"
            raise BankValueError(msg)
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.momentum = momentum
        self.buffers_rule = buffers
        self.schedule = schedule
        self.total_steps = total_steps
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64, device=_device(encoder)))

    @torch.no_grad()
    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """The copy's output, without gradient."""
        return self.encoder(*inputs, **keywords)

    @torch.no_grad()
    def update(self, online: nn.Module, step: int | Tensor | None = None) -> None:
        """Move the copy towards ``online``, in place; never waits for the device.

        Args:
            online: The encoder being trained, unwrapped, with the structure the copy was made from.
            step: The training step, for the cosine schedule; the number of updates so far if None.

        Raises:
            BankValueError: ``online`` has other parameters or buffers than the copy.
        """
        amount = 1.0 - self.momentum if self.schedule == "constant" else self._cosine_amount(step)
        pairs = _paired(self.encoder.named_parameters(), online.named_parameters(), "parameter")
        averaged, copied = pairs, []
        for pair in _paired(self.encoder.named_buffers(), online.named_buffers(), "buffer"):
            averages = self.buffers_rule == "average" and pair[0].is_floating_point()
            (averaged if averages else copied).append(pair)
        _move(averaged, amount)
        for target, source in copied:
            target.copy_(source)
        self.updates += 1

    def _cosine_amount(self, step: int | Tensor | None) -> Tensor:
        """``(1 - momentum) * (cos(pi step / total_steps) + 1) / 2``, found on the device."""
        now = self.updates if step is None else torch.as_tensor(step, device=self.updates.device)
        progress = (now.to(torch.float32) / (self.total_steps or 1)).clamp(0, 1)
        return (1.0 - self.momentum) * (torch.cos(torch.pi * progress) + 1) / 2

    def extra_repr(self) -> str:
        """The settings, for ``repr``."""
        return f"momentum={self.momentum}, buffers={self.buffers_rule!r}, schedule={self.schedule!r}"


def _move(pairs: list[tuple[Tensor, Tensor]], amount: float | Tensor) -> None:
    if not pairs:
        return
    targets = [target for target, _ in pairs]
    sources = [source.to(target.dtype) for target, source in pairs]
    if isinstance(amount, Tensor):
        torch._foreach_lerp_(targets, sources, [amount.to(target.dtype) for target in targets])
    else:
        torch._foreach_lerp_(targets, sources, amount)


def _paired(
    ours: Iterator[tuple[str, Tensor]], theirs: Iterator[tuple[str, Tensor]], word: str
) -> list[tuple[Tensor, Tensor]]:
    """Tensors of the same name, ours first.

    Raises:
        BankValueError: A name or shape is on one side only.
    """
    targets, sources = dict(ours), dict(theirs)
    ours_have = {name: tuple(tensor.shape) for name, tensor in targets.items()}
    theirs_have = {name: tuple(tensor.shape) for name, tensor in sources.items()}
    if ours_have != theirs_have:
        differing = sorted(dict(ours_have.items() ^ theirs_have.items()))
        name = differing[0]
        msg = (
            f"{word} {name!r} is {_shape(ours_have, name)} in the momentum encoder but "
            f"{_shape(theirs_have, name)} in the online one ({len(differing)} differ); pass the encoder it "
            "was made from, without a wrapper such as DDP or torch.compile"
        )
        raise BankValueError(msg)
    return [(target, sources[name]) for name, target in targets.items()]


def _shape(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return f"of shape {shapes[name]}" if name in shapes else "missing"


def _device(encoder: nn.Module) -> torch.device | None:
    first = next(encoder.parameters(), None)
    return None if first is None else first.device
