"""Nearest-neighbour contrast: the positive of a view is what the memory holds nearest to the other view.

[Dwibedi, Aytar, Tompson, Sermanet and Zisserman 2021](arXiv:2104.14548), algorithm 1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torchbank import losses
from torchbank.banks import MemoryBank
from torchbank.data import ViewBatch
from torchbank.methods._health import health_logs
from torchbank.methods._output import MethodOutput
from torchbank.methods._projection import mlp
from torchbank.methods._self_supervised import SelfSupervised, check_views
from torchbank.methods._settings import check_numbers, queue_rows


@dataclass(frozen=True)
class NNCLRConfig:
    """Settings of `NNCLR`; the defaults are the paper's.

    Args:
        dim: Dim of the encoder's features.
        projection_dim: Dim of the remembered rows.
        hidden_dim: Width of the projection's two hidden layers.
        prediction_hidden_dim: Width of the predictor's hidden layer.
        capacity: Rows of the support set: an int counts them, a float is a share of the training images.
        temperature: Of the softmax.
        monitor_drift: Whether drift is read from revisits.

    Raises:
        BankValueError: A number is out of range.
    """

    dim: int = 512
    projection_dim: int = 256
    hidden_dim: int = 2_048
    prediction_hidden_dim: int = 4_096
    capacity: int | float = 98_304
    temperature: float = 0.1
    monitor_drift: bool = False

    def __post_init__(self) -> None:
        sizes = ("dim", "projection_dim", "hidden_dim", "prediction_hidden_dim", "capacity")
        check_numbers(self, above_zero=(*sizes, "temperature"))


class NNCLR(SelfSupervised):
    """Contrastive learning whose positives are nearest neighbours from a memory; the negatives are the batch.

    Until the memory holds a row of another instance, the view itself stands for its neighbour.

    Args:
        encoder: Views ``(b, ...)`` to features ``(b, dim)``.
        config: The settings.
        dataset_size: Training instances; their ids lie in [0, dataset_size). Needed where the capacity is a share
            of them or drift is monitored; warns where the memory holds more rows.

    Attributes:
        encoder: As given.
        predictor: What maps a projection to its prediction of the other view's neighbour.
        bank: The support set, a `torchbank.MemoryBank` with the field ``id``.
        drift: `torchbank.drift.RevisitDrift`; None where it is not monitored.

    Raises:
        BankValueError: ``dataset_size`` is needed and not given.

    Example:
        >>> import torch
        >>> from torchbank.data import ViewBatch
        >>> from torchbank.methods import NNCLR, NNCLRConfig
        >>> encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16))
        >>> method = NNCLR(encoder, NNCLRConfig(dim=16, hidden_dim=32, prediction_hidden_dim=32, capacity=64))
        >>> views = (torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8))
        >>> batch = ViewBatch(views, labels=torch.zeros(4, dtype=torch.int64), ids=torch.arange(4))
        >>> method(batch, step=0).loss.backward()
        >>> method.after_step()
        >>> len(method.bank)
        4
    """

    config: NNCLRConfig
    bank: MemoryBank

    def __init__(self, encoder: nn.Module, config: NNCLRConfig, *, dataset_size: int | None = None) -> None:
        sizes = (config.dim, config.hidden_dim, config.hidden_dim, config.projection_dim)
        super().__init__(encoder, mlp(*sizes, normalized="all"), config, dataset_size)
        prediction = (config.projection_dim, config.prediction_hidden_dim, config.projection_dim)
        self.predictor = mlp(*prediction, normalized="hidden")
        capacity = queue_rows(config.capacity, dataset_size)
        self.bank = MemoryBank(capacity, config.projection_dim, fields={"id": torch.int64})

    def forward(self, batch: ViewBatch, *, step: int) -> MethodOutput:
        """One step of algorithm 1.

        Args:
            batch: Two views, and ids.
            step: Updates made so far.

        Returns:
            The loss, and the health of the embeddings and the memory as logs.
        """
        check_views(batch.views, 2)
        first, second = self.student(batch.views[:2])
        first_prediction, second_prediction = self.predictor(torch.cat([first, second])).chunk(2)
        near_first, winners = self._neighbors(first, batch.ids)
        near_second, _ = self._neighbors(second, batch.ids)
        loss = (
            self._contrast(near_first, second_prediction, batch.ids)
            + self._contrast(near_second, first_prediction, batch.ids)
        ) / 2
        collapsed = math.log(max(1, len(first)))
        logs = health_logs(first, second, self.bank, collapsed_loss=collapsed, step=step, winners=winners)
        self._remember(first, batch.ids, step=step, id=batch.ids)
        return MethodOutput(loss, logs)

    def _neighbors(self, projections: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest row of another instance for each projection ``(b, projection_dim)``, and its slot."""
        found = self.bank.nearest(projections, k=1, exclude={"id": ids})
        rows = self.bank.gather(found.slots).embeddings[:, 0]
        return torch.where(found.valid, rows, projections.detach()), found.slots[:, 0]

    def _contrast(self, neighbors: Tensor, predictions: Tensor, ids: Tensor) -> Tensor:
        """Which prediction of the batch is that of this neighbour? The gradient reaches all of them."""
        temperature = self.config.temperature
        return losses.info_nce(neighbors, predictions, None, temperature=temperature, exclude={"id": ids})
