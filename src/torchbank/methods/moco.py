"""Momentum contrast: tell the key of the same instance from a queue of keys of a slowly moving encoder.

[He, Fan, Wu, Xie and Girshick 2020](arXiv:1911.05722), algorithm 1, with the head and temperature of
[Chen, Fan, Girshick and He 2020](arXiv:2003.04297) (v2) and the symmetric loss of the authors' CIFAR-10 recipe.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from torchbank import losses
from torchbank.banks import MemoryBank
from torchbank.data import ViewBatch
from torchbank.drift import MomentumEncoder
from torchbank.errors import check_choice
from torchbank.methods._health import health_logs
from torchbank.methods._output import MethodOutput
from torchbank.methods._projection import mlp
from torchbank.methods._self_supervised import SelfSupervised, check_views
from torchbank.methods._settings import check_numbers, queue_rows
from torchbank.methods._shuffled_keys import encode_shuffled
from torchbank.methods._split_batch_norm import split_batch_norm
from torchbank.methods._step_generator import step_generator

Head = Literal["linear", "mlp", "mlp-bn"]
Statistics = Literal["whole", "split", "shuffled"]


@dataclass(frozen=True)
class MoCoConfig:
    """Settings of `MoCo`; the defaults are version 2. Version 1 is ``head="linear", temperature=0.07``.

    Args:
        dim: Dim of the encoder's features.
        projection_dim: Dim of the keys.
        capacity: Keys in the queue: an int counts them, a float is a share of the training images.
        temperature: Of the softmax; 0.1 in the CIFAR-10 recipe.
        head: What projects features: one linear layer (v1), two with a ReLU between (v2), or these with batch norm
            before the ReLU, as in [Chen, Xie and He 2021](arXiv:2104.02057) (v3): small networks learn sooner.
        momentum: Share of the key encoder's weights that stays at each update; 0.99 in the CIFAR-10 recipe.
        momentum_schedule: Constant, or a cosine that raises it to 1 over ``total_steps``.
        total_steps: Updates of the training run, for the cosine.
        symmetric: Whether each view is query and key in turn; the loss is the sum of both, and both are queued.
        batch_norm: What hides which query and key share a batch. "whole" hides nothing, "shuffled" encodes
            the keys of all ranks in one random order (needs equal batches on all ranks, and helps with several
            only), "split" takes batch statistics of parts of the batch, shuffled too, for one device.
        batch_norm_parts: Parts for "split".
        monitor_drift: Whether drift of the keys is read from revisits.
        seed: Of the order of keys.

    Raises:
        BankValueError: A number is out of range or a word is unknown.
    """

    dim: int = 512
    projection_dim: int = 128
    capacity: int | float = 65_536
    temperature: float = 0.2
    head: Head = "mlp"
    momentum: float = 0.999
    momentum_schedule: Literal["constant", "cosine"] = "constant"
    total_steps: int | None = None
    symmetric: bool = False
    batch_norm: Statistics = "shuffled"
    batch_norm_parts: int = 8
    monitor_drift: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(
            self,
            above_zero=("dim", "projection_dim", "capacity", "temperature", "total_steps", "batch_norm_parts"),
            not_negative=("seed",),
        )
        check_choice("head", self.head, *get_args(Head))
        check_choice("batch_norm", self.batch_norm, *get_args(Statistics))


class MoCo(SelfSupervised):
    """Contrastive learning with a queue of keys from a momentum encoder.

    Args:
        encoder: Views ``(b, ...)`` to features ``(b, dim)``. With ``batch_norm="split"`` its batch norms are
            replaced by ones that work on parts of a batch; their names in ``state_dict()`` stay.
        config: The settings.
        dataset_size: Training instances; their ids lie in [0, dataset_size). Needed where the capacity is a share
            of them or drift is monitored; warns where the queue holds more rows.

    Attributes:
        encoder: The query encoder, without its head.
        teacher: The key encoder with its head, a `torchbank.MomentumEncoder`.
        bank: The queue, a `torchbank.MemoryBank` with the field ``id``.
        drift: `torchbank.drift.RevisitDrift` of the keys; None where it is not monitored.

    Raises:
        BankValueError: ``dataset_size`` or ``total_steps`` is needed and not given.

    Example:
        >>> import torch
        >>> from torchbank.data import ViewBatch
        >>> from torchbank.methods import MoCo, MoCoConfig
        >>> encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16))
        >>> method = MoCo(encoder, MoCoConfig(dim=16, capacity=512))
        >>> views = (torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8))
        >>> batch = ViewBatch(views, labels=torch.zeros(4, dtype=torch.int64), ids=torch.arange(4))
        >>> output = method(batch, step=0)
        >>> output.loss.backward()
        >>> method.after_step()
        >>> len(method.bank)
        4
    """

    config: MoCoConfig
    bank: MemoryBank

    def __init__(self, encoder: nn.Module, config: MoCoConfig, *, dataset_size: int | None = None) -> None:
        hidden = () if config.head == "linear" else (config.dim,)
        normalized = "hidden" if config.head == "mlp-bn" else "none"
        head = mlp(config.dim, *hidden, config.projection_dim, normalized=normalized)
        super().__init__(encoder, head, config, dataset_size)
        if config.batch_norm == "split":
            split_batch_norm(self.student, config.batch_norm_parts)
        self.teacher = MomentumEncoder(
            self.student,
            momentum=config.momentum,
            schedule=config.momentum_schedule,
            total_steps=config.total_steps if config.momentum_schedule == "cosine" else None,
        )
        capacity = queue_rows(config.capacity, dataset_size)
        self.bank = MemoryBank(capacity, config.projection_dim, fields={"id": torch.int64})

    def forward(self, batch: ViewBatch, *, step: int) -> MethodOutput:
        """One step of algorithm 1; the first view is the query, the second the key.

        Args:
            batch: Two views, and ids.
            step: Updates made so far.

        Returns:
            The loss, and the health of the embeddings and the memory as logs.
        """
        check_views(batch.views, 2)
        first, second = batch.views[:2]
        queries, keys = self._query(first), self._keys(second, step, stream=0)
        loss = self._contrast(queries, keys, batch.ids)
        collapsed = self.bank.count().log1p()
        remembered, ids = keys, batch.ids
        if self.config.symmetric:
            more_keys = self._keys(first, step, stream=1)
            loss = loss + self._contrast(self._query(second), more_keys, batch.ids)
            collapsed = 2 * collapsed
            remembered, ids = torch.cat([more_keys, keys]), batch.ids.repeat(2)
        logs = health_logs(queries, keys, self.bank, collapsed_loss=collapsed, step=step)
        # Remembered once the loss has read the queue, so that no query meets its own key there.
        self._remember(remembered, ids, step=step, id=ids)
        return MethodOutput(loss, logs)

    def _query(self, view: Tensor) -> Tensor:
        return self.student((view,))[0]

    def _keys(self, view: Tensor, step: int, stream: int) -> Tensor:
        def encode(inputs: Tensor) -> Tensor:
            return self.teacher((inputs,))[0]

        if self.config.batch_norm == "whole":
            return encode(view)
        return encode_shuffled(encode, view, step_generator(self.config.seed, step, stream))

    def _contrast(self, queries: Tensor, keys: Tensor, ids: Tensor) -> Tensor:
        # Old keys of the same instance are no negatives.
        return losses.info_nce(queries, keys, self.bank, temperature=self.config.temperature, exclude={"id": ids})

    def _move_teacher(self) -> None:
        self.teacher.update(self.student)
