"""What the self-supervised methods share: a projected encoder, and rows that wait to be remembered."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from torchbank.data import Batch, ViewBatch
from torchbank.drift import RevisitDrift
from torchbank.errors import BankValueError
from torchbank.methods._output import MethodOutput
from torchbank.methods._pending_rows import PendingRows
from torchbank.methods._projection import ProjectedEncoder
from torchbank.methods._settings import known


class SelfSupervised(nn.Module, ABC):
    """A method that learns from views of instances, without their labels.

    ``method(batch, step=)`` reads the memory; what it will remember waits until `after_step`, so that a query never
    meets its own key and several forward passes make one push. Only in train mode is anything remembered.

    Args:
        encoder: Views to features ``(b, config.dim)``.
        head: Features to projections.
        config: With ``dim``, ``projection_dim`` and ``monitor_drift``.
        dataset_size: Training instances; their ids lie in [0, dataset_size). Needed where drift is monitored.

    Attributes:
        student: The encoder with its head, which are trained.
        bank: The memory, or None.
        drift: `torchbank.drift.RevisitDrift` of what is remembered, or None.
    """

    bank: Any  # each method's own kind of bank, or None
    drift: RevisitDrift | None

    def __init__(self, encoder: nn.Module, head: nn.Module, config: Any, dataset_size: int | None) -> None:
        super().__init__()
        self.config = config
        self.student = ProjectedEncoder(encoder, head, config.dim)
        self.bank = None
        self.drift = None
        if config.monitor_drift:
            instances = known(dataset_size, "monitor_drift=True keeps a row an instance")
            self.drift = RevisitDrift(instances, config.projection_dim)
        self._pending = PendingRows()

    @property
    def encoder(self) -> nn.Module:
        """The encoder, whose features are evaluated."""
        return self.student.encoder

    @abstractmethod
    def forward(self, batch: ViewBatch, *, step: int) -> MethodOutput:
        """One step of the paper's algorithm."""

    def after_step(self) -> None:
        """Follow an update of the weights: move the teacher, if there is one, and remember what waits."""
        self._move_teacher()
        if self.bank is not None:
            self._pending.push_into(self.bank)

    def _move_teacher(self) -> None:
        """Nothing, where there is no teacher."""

    def _remember(self, embeddings: Tensor, ids: Tensor, *, step: int, **columns: Tensor) -> None:
        """Queue rows for `after_step`, and read drift from the instances that were seen before."""
        if not self.training:
            return
        self._pending.add(embeddings, step=step, **columns)
        if self.drift is not None:
            self.drift.observe(embeddings.detach(), ids, step=step)

    def wants_prefill(self, step: int) -> bool:  # noqa: ARG002
        """Never: a queue grows with its pushes."""
        return False

    def prefill(self, batches: Iterable[Batch | ViewBatch]) -> None:
        """Nothing."""


def check_views(views: tuple[Tensor, ...], count: int) -> None:
    """Raise unless there are as many views as the method compares.

    Raises:
        BankValueError: There are fewer.
    """
    if len(views) < count:
        msg = f"the batch has {len(views)} views; expected {count} or more, so choose an augmentation that makes them"
        raise BankValueError(msg)
