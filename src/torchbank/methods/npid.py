"""Non-parametric instance discrimination: each instance is a class, whose weight is its own remembered embedding.

[Wu, Xiong, Yu and Lin 2018](arXiv:1805.01978), sections 3.1 to 3.3.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, softplus

from torchbank import losses
from torchbank.banks import KeyedMemoryBank
from torchbank.data import Batch, ViewBatch
from torchbank.errors import BankValueError, check_choice
from torchbank.methods._health import health_logs
from torchbank.methods._output import MethodOutput
from torchbank.methods._projection import mlp
from torchbank.methods._random_rows import fill_with_random_rows
from torchbank.methods._self_supervised import SelfSupervised, check_views
from torchbank.methods._settings import check_numbers, known, rows_of
from torchbank.methods._step_generator import step_generator

Loss = Literal["nce", "softmax"]


@dataclass(frozen=True)
class NPIDConfig:
    """Settings of `NPID`; the defaults are the paper's.

    Args:
        dim: Dim of the encoder's features.
        projection_dim: Dim of the remembered rows.
        capacity: Rows of the memory, one an instance: a share of the data set, or an int no smaller than it.
        temperature: Of the softmax.
        loss: "nce" estimates it against random rows, "softmax" is the whole of it.
        noise: Random rows for "nce".
        bank_momentum: Share of the stored row in the new one.
        prefill: Whether the memory begins with the first encoder's embeddings of all instances (not in the paper),
            from which a few passes over the data learn more than from random directions.
        proximal_weight: Weight of the squared distance between an embedding and its stored row (section 3.3); the
            authors' code leaves it out.
        monitor_drift: Whether drift is read from revisits.
        seed: Of the first rows and the noise.

    Raises:
        BankValueError: A number is out of range or a word is unknown.
    """

    dim: int = 512
    projection_dim: int = 128
    capacity: int | float = 1.0
    temperature: float = 0.07
    loss: Loss = "nce"
    noise: int = 4_096
    bank_momentum: float = 0.5
    prefill: bool = False
    proximal_weight: float = 0.0
    monitor_drift: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(
            self,
            above_zero=("dim", "projection_dim", "capacity", "temperature", "noise"),
            not_negative=("proximal_weight", "seed"),
        )
        check_choice("loss", self.loss, *get_args(Loss))


class NPID(SelfSupervised):
    """Instance discrimination with one remembered row an instance.

    The memory begins with random directions, as the paper's does, or with what `prefill` is given. Of several views
    the first is used.

    Args:
        encoder: Views ``(b, ...)`` to features ``(b, dim)``.
        config: The settings.
        dataset_size: Training instances; their ids lie in [0, dataset_size).

    Attributes:
        encoder: As given.
        bank: A `torchbank.KeyedMemoryBank` with the field ``id``.
        log_normalizer: 0-d, ``log(Z / n)`` of the first batch, NaN before; see `torchbank.losses.nce`.
        drift: `torchbank.drift.RevisitDrift`; None where it is not monitored.

    Raises:
        BankValueError: ``dataset_size`` is not given, or the capacity is less.

    Example:
        >>> import torch
        >>> from torchbank.data import Batch, ViewBatch
        >>> from torchbank.methods import NPID, NPIDConfig
        >>> encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16))
        >>> method = NPID(encoder, NPIDConfig(dim=16, noise=32), dataset_size=100)
        >>> batch = ViewBatch((torch.rand(4, 1, 8, 8),), torch.zeros(4, dtype=torch.int64), torch.arange(4))
        >>> method(batch, step=0).loss.backward()
        >>> method.after_step()
        >>> len(method.bank)
        100
    """

    config: NPIDConfig
    bank: KeyedMemoryBank
    log_normalizer: Tensor

    def __init__(self, encoder: nn.Module, config: NPIDConfig, *, dataset_size: int | None = None) -> None:
        super().__init__(encoder, mlp(config.dim, config.projection_dim), config, dataset_size)
        instances = known(dataset_size, "the memory holds a row for each instance")
        capacity = rows_of(config.capacity, dataset_size)
        if capacity < instances:
            msg = f"capacity is {capacity} rows for {instances} instances; expected one for each, so give 1.0"
            raise BankValueError(msg)
        # An instance that comes twice in a batch leaves its last embedding.
        self.bank = KeyedMemoryBank(
            capacity,
            config.projection_dim,
            momentum=config.bank_momentum,
            duplicates="last",
            fields={"id": torch.int64},
        )
        if not config.prefill:
            fill_with_random_rows(self.bank, config.seed, keyed=True)
        self.register_buffer("log_normalizer", torch.tensor(math.nan))
        self._has_normalizer = False
        self.register_load_state_dict_post_hook(_look_again)

    def forward(self, batch: ViewBatch, *, step: int) -> MethodOutput:
        """One step: compare with the memory as it is, then queue the embeddings for it.

        Args:
            batch: A view, and ids.
            step: Updates made so far.

        Returns:
            The loss, and the health of the embeddings and the memory as logs.
        """
        check_views(batch.views, 1)
        config = self.config
        embeddings = self.student(batch.views[:1])[0]
        stored = self.bank.gather(batch.ids).embeddings
        collapsed: float | Tensor
        if config.loss == "softmax":
            loss = losses.info_nce(
                embeddings, stored, self.bank, temperature=config.temperature, exclude={"id": batch.ids}
            )
            collapsed = math.log(self.bank.capacity)
        else:
            loss, collapsed = self._nce(embeddings, stored, step)
        if config.proximal_weight:
            # Of unit vectors: ||v - v'||^2 = 2 - 2 cos.
            distance = 2 - 2 * cosine_similarity(embeddings.float(), stored.float(), dim=1)
            loss = loss + config.proximal_weight * distance.mean()
        logs = health_logs(embeddings, stored, self.bank, collapsed_loss=collapsed, step=step)
        self._remember(embeddings, batch.ids, step=step, keys=batch.ids, id=batch.ids)
        return MethodOutput(loss, logs)

    def wants_prefill(self, step: int) -> bool:
        """Whether `prefill` is due: before the first step, where the settings say so."""
        return self.config.prefill and step == 0

    @torch.no_grad()
    def prefill(self, batches: Iterable[Batch | ViewBatch]) -> None:
        """Remember every instance as the encoder sees it now.

        It runs in its mode, in training by the statistics of each batch: those of all batches are not known yet.

        Args:
            batches: Each instance once, as it is.
        """
        for batch in batches:
            view = batch.views[0] if isinstance(batch, ViewBatch) else batch.images
            self.bank.push(self.student((view,))[0], keys=batch.ids, id=batch.ids, step=0)

    def _nce(self, embeddings: Tensor, stored: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The loss by random rows, and its value if all embeddings were equal."""
        config = self.config
        generator = step_generator(config.seed, step)
        noise = torch.randint(self.bank.capacity, (config.noise,), generator=generator).to(self.bank.device)
        self._keep_normalizer(embeddings, noise)
        loss = losses.nce(
            embeddings,
            stored,
            self.bank,
            noise=noise,
            log_normalizer=self.log_normalizer,
            temperature=config.temperature,
        )
        evidence = 1 / config.temperature - self.log_normalizer - math.log(config.noise)
        return loss, softplus(-evidence) + config.noise * softplus(evidence)

    def _keep_normalizer(self, embeddings: Tensor, noise: Tensor) -> None:
        """Z is found from the first batch and stays."""
        if self._has_normalizer:
            return
        estimate = losses.nce_log_normalizer(
            embeddings.detach(), self.bank, noise=noise, temperature=self.config.temperature
        )
        # After loading there may be one: looked at on the device, once.
        self.log_normalizer.copy_(torch.where(self.log_normalizer.isnan(), estimate, self.log_normalizer))
        self._has_normalizer = True


def _look_again(method: NPID, _: Any) -> None:
    method._has_normalizer = False
