"""SimCLR: tell the other view of an instance from all other views of the batch. The baseline without a memory.

[Chen, Kornblith, Norouzi and Hinton 2020](arXiv:2002.05709), algorithm 1.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from torchbank import losses
from torchbank.data import ViewBatch
from torchbank.methods._health import health_logs
from torchbank.methods._output import MethodOutput
from torchbank.methods._projection import mlp
from torchbank.methods._self_supervised import SelfSupervised, check_views
from torchbank.methods._settings import check_numbers


@dataclass(frozen=True)
class SimCLRConfig:
    """Settings of `SimCLR`; the defaults are the paper's for ImageNet.

    Args:
        dim: Dim of the encoder's features.
        projection_dim: Dim of the projections.
        hidden_dim: Width of the head's hidden layer.
        temperature: Of the softmax; 0.5 in the paper's CIFAR-10 runs.
        monitor_drift: Whether drift is read from revisits.

    Raises:
        BankValueError: A number is out of range.
    """

    dim: int = 512
    projection_dim: int = 128
    hidden_dim: int = 2_048
    temperature: float = 0.1
    monitor_drift: bool = False

    def __post_init__(self) -> None:
        check_numbers(self, above_zero=("dim", "projection_dim", "hidden_dim", "temperature"))


class SimCLR(SelfSupervised):
    """In-batch contrastive learning: 2 b views, each with its partner and 2 b - 2 negatives.

    Args:
        encoder: Views ``(b, ...)`` to features ``(b, dim)``.
        config: The settings.
        dataset_size: Training instances; needed where drift is monitored.

    Attributes:
        encoder: As given.
        bank: None.
        drift: `torchbank.drift.RevisitDrift`; None where it is not monitored.

    Example:
        >>> import torch
        >>> from torchbank.data import ViewBatch
        >>> from torchbank.methods import SimCLR, SimCLRConfig
        >>> encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16))
        >>> method = SimCLR(encoder, SimCLRConfig(dim=16, hidden_dim=32))
        >>> views = (torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8))
        >>> batch = ViewBatch(views, labels=torch.zeros(4, dtype=torch.int64), ids=torch.arange(4))
        >>> method(batch, step=0).loss.backward()
    """

    config: SimCLRConfig

    def __init__(self, encoder: nn.Module, config: SimCLRConfig, *, dataset_size: int | None = None) -> None:
        head = mlp(config.dim, config.hidden_dim, config.projection_dim, normalized="hidden")
        super().__init__(encoder, head, config, dataset_size)

    def forward(self, batch: ViewBatch, *, step: int) -> MethodOutput:
        """One step of algorithm 1.

        Args:
            batch: Two views, and ids.
            step: Updates made so far.

        Returns:
            The loss, and the health of the embeddings as logs.
        """
        check_views(batch.views, 2)
        first, second = self.student(batch.views[:2])
        views, ids = torch.cat([first, second]), batch.ids.repeat(2)
        # The positives of a view are the rows of its instance, its own row left out: NT-Xent.
        loss = losses.sup_con(views, None, labels=ids, temperature=self.config.temperature)
        collapsed = math.log(max(1, len(views) - 1))
        logs = health_logs(first, second, collapsed_loss=collapsed, step=step)
        if self.drift is not None and self.training:
            self.drift.observe(first.detach(), batch.ids, step=step)
        return MethodOutput(loss, logs)
