"""MaSSL: a student learns to see random parts of a memory as its teacher sees them.

[Silva, Pedrini and Ramírez Rivera 2024](arXiv:2407.17486).
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from torchbank import losses
from torchbank.banks import MemoryBank
from torchbank.data import ViewBatch
from torchbank.drift import MomentumEncoder
from torchbank.errors import BankValueError, check_choice
from torchbank.methods._health import health_logs
from torchbank.methods._output import MethodOutput
from torchbank.methods._projection import mlp
from torchbank.methods._random_rows import fill_with_random_rows
from torchbank.methods._self_supervised import SelfSupervised, check_views
from torchbank.methods._settings import check_numbers, queue_rows
from torchbank.methods._step_generator import step_generator

Head = Literal["mlp", "mlp-bn"]
Memory = Literal["teacher", "random"]
Partition = Literal["random", "fixed"]

# The teacher sees these many views, the first of the batch.
GLOBAL_VIEWS = 2


@dataclass(frozen=True)
class MaSSLConfig:
    """Settings of `MaSSL`; the defaults are the paper's for ViT-S/16 and 800 epochs.

    Args:
        dim: Dim of the encoder's features.
        projection_dim: Dim of the remembered rows.
        hidden_dim: Width of the head's two hidden layers.
        head: Whether batch norm stands before their activation, an option of the authors' too: without it, small
            networks begin with embeddings that are nearly one point.
        capacity: Rows of the memory: an int counts them, a float is a share of the training images.
        block_size: Rows of a block; a remainder is left out at each step.
        temperature: Of the student.
        teacher_temperature: Of the teacher, from the end of its warm-up on.
        teacher_temperature_start: Of the teacher at the first step; it rises linearly from there.
        teacher_warmup: The share of ``total_steps`` over which it rises.
        momentum: Share of the teacher's weights that stays at each update; a cosine raises it to 1.
        total_steps: Updates of the training run.
        partition: Whether blocks are drawn anew at each step, or stay.
        memory: What is remembered: the teacher's embeddings of the second view or, to compare with, nothing but
            the random directions that the memory begins with.
        gradient_clip: The norm that the gradient of each tensor of weights is cut to; None cuts nothing.
        monitor_drift: Whether drift of the teacher's embeddings is read from revisits.
        seed: Of the blocks and the first rows.

    Raises:
        BankValueError: A number is out of range or a word is unknown.
    """

    dim: int = 512
    projection_dim: int = 256
    hidden_dim: int = 2_048
    head: Head = "mlp"
    capacity: int | float = 131_072
    block_size: int = 16_384
    temperature: float = 0.1
    teacher_temperature: float = 0.07
    teacher_temperature_start: float = 0.04
    teacher_warmup: float = 30 / 800
    momentum: float = 0.992
    total_steps: int | None = None
    partition: Partition = "random"
    memory: Memory = "teacher"
    gradient_clip: float | None = 3.0
    monitor_drift: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = ("dim", "projection_dim", "hidden_dim", "capacity", "block_size", "total_steps")
        temperatures = ("temperature", "teacher_temperature", "teacher_temperature_start")
        check_numbers(
            self, above_zero=(*sizes, *temperatures, "gradient_clip"), not_negative=("teacher_warmup", "seed")
        )
        check_choice("head", self.head, *get_args(Head))
        check_choice("partition", self.partition, *get_args(Partition))
        check_choice("memory", self.memory, *get_args(Memory))

    def teacher_temperature_at(self, step: int) -> float:
        """The teacher's temperature at a step."""
        rising = self.teacher_warmup * (self.total_steps or 0)
        progress = min(1.0, step / rising) if rising else 1.0
        return self.teacher_temperature_start + progress * (self.teacher_temperature - self.teacher_temperature_start)


class MaSSL(SelfSupervised):
    """Self-supervised learning by matching similarity distributions over random blocks of a memory.

    The memory begins full of random directions, as the paper's does. The loop calls `before_step` between the
    backward pass and the optimiser's step.

    Args:
        encoder: Views ``(b, ...)`` to features ``(b, dim)``; views may differ in size.
        config: The settings; ``total_steps`` must be set.
        dataset_size: Training instances; their ids lie in [0, dataset_size). Needed where the capacity is a share
            of them or drift is monitored; warns where the memory holds more rows.

    Attributes:
        encoder: As given, the student's.
        teacher: The teacher with its head, a `torchbank.MomentumEncoder` without dropout.
        bank: The memory, a `torchbank.MemoryBank`.
        drift: `torchbank.drift.RevisitDrift` of the teacher; None where it is not monitored.

    Raises:
        BankValueError: ``total_steps`` or ``dataset_size`` is needed and not given, or a block is larger than the
            memory.

    Example:
        >>> import torch
        >>> from torchbank.data import ViewBatch
        >>> from torchbank.methods import MaSSL, MaSSLConfig
        >>> encoder = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(16, 16))
        >>> config = MaSSLConfig(dim=16, hidden_dim=32, capacity=64, block_size=16, total_steps=100)
        >>> method = MaSSL(encoder, config)
        >>> views = (*torch.rand(2, 4, 1, 16, 16), *torch.rand(3, 4, 1, 8, 8))
        >>> batch = ViewBatch(views, labels=torch.zeros(4, dtype=torch.int64), ids=torch.arange(4))
        >>> method(batch, step=0).loss.backward()
        >>> method.before_step()
        >>> method.after_step()
    """

    config: MaSSLConfig
    bank: MemoryBank

    def __init__(self, encoder: nn.Module, config: MaSSLConfig, *, dataset_size: int | None = None) -> None:
        sizes = (config.dim, config.hidden_dim, config.hidden_dim, config.projection_dim)
        normalized = "hidden" if config.head == "mlp-bn" else "none"
        head = _narrow_start(mlp(*sizes, activation=nn.GELU, normalized=normalized))
        super().__init__(encoder, head, config, dataset_size)
        self.teacher = MomentumEncoder(
            self.student, momentum=config.momentum, schedule="cosine", total_steps=config.total_steps
        )
        _stop_dropping(self.teacher)
        capacity = queue_rows(config.capacity, dataset_size)
        if config.block_size > capacity:
            msg = f"block_size is {config.block_size} but the memory holds {capacity} rows; take smaller blocks"
            raise BankValueError(msg)
        self.bank = MemoryBank(capacity, config.projection_dim)
        fill_with_random_rows(self.bank, config.seed)

    def forward(self, batch: ViewBatch, *, step: int) -> MethodOutput:
        """One step of the paper's algorithm.

        Args:
            batch: Two or more views, those for the teacher first, and ids.
            step: Updates made so far.

        Returns:
            The loss, and the health of the embeddings and the memory as logs.
        """
        check_views(batch.views, GLOBAL_VIEWS)
        config = self.config
        student = self.student(batch.views)
        teacher = self.teacher(batch.views[:GLOBAL_VIEWS])
        another_view = ~torch.eye(len(student), len(teacher), dtype=torch.bool, device=student.device)
        loss = losses.distribution_match(
            student,
            teacher,
            self.bank,
            student_temperature=config.temperature,
            teacher_temperature=config.teacher_temperature_at(step),
            blocks=self._blocks(step),
            pair_mask=another_view,
        )
        collapsed = math.log(config.block_size)
        logs = health_logs(student[0], teacher[1], self.bank, collapsed_loss=collapsed, step=step)
        if config.memory == "teacher":
            self._remember(teacher[1], batch.ids, step=step)
        return MethodOutput(loss, logs)

    def before_step(self) -> None:
        """Cut the gradient of each tensor of weights to ``config.gradient_clip``; without waiting for the device."""
        gradients = [weights.grad for weights in self.student.parameters() if weights.grad is not None]
        if self.config.gradient_clip is None or not gradients:
            return
        norms = torch._foreach_norm(gradients)
        torch._foreach_mul_(gradients, [(self.config.gradient_clip / (norm + 1e-6)).clamp(max=1.0) for norm in norms])

    def _blocks(self, step: int) -> Tensor:
        """A random partition of the memory, for all views, and equal on all ranks."""
        turn = step if self.config.partition == "random" else 0
        return self.bank.blocks(self.config.block_size, generator=step_generator(self.config.seed, turn))

    def _move_teacher(self) -> None:
        self.teacher.update(self.student)


def _narrow_start(head: nn.Sequential) -> nn.Sequential:
    """Weights from a normal distribution of standard deviation 0.02, cut off, and no bias."""
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return head


def _stop_dropping(teacher: nn.Module) -> None:
    """No dropout and no stochastic depth, also in train mode."""
    for module in teacher.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        if "drop_prob" in vars(module):  # timm's stochastic depth
            vars(module)["drop_prob"] = 0.0
