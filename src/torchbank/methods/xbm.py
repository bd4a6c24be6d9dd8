"""Cross-batch memory: each batch is also compared with the embeddings of the batches before it.

[Wang, Zhang, Huang and Scott 2020](arXiv:1912.06798), algorithm 1, with the warm-up and the pre-filled memory of
its section 3.3.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from torchbank import losses
from torchbank.banks import MemoryBank
from torchbank.data import Batch
from torchbank.drift import RevisitDrift
from torchbank.encoders import encode
from torchbank.errors import check_choice
from torchbank.losses import ContrastivePairs, Normalize
from torchbank.methods._health import memory_logs
from torchbank.methods._output import MethodOutput
from torchbank.methods._settings import check_numbers, known, rows_of

Loss = Literal["contrastive", "triplet", "multi-similarity"]

# The margins of the paper's settings; of multi-similarity it is the one of its mining.
_MARGINS: dict[Loss, float] = {"contrastive": 0.5, "triplet": 0.1, "multi-similarity": 0.1}


@dataclass(frozen=True)
class XBMConfig:
    """Settings of `XBM`. Defaults are the paper's unless said otherwise.

    Args:
        dim: Dim of the encoder's embeddings.
        memory: False is plain in-batch training, by the same code.
        capacity: Rows of the memory: an int counts them, a float is a share of the training images.
        memory_weight: Weight of the memory term beside the in-batch term.
        start_step: Steps of warm-up before the memory begins.
        prefill: Whether the memory begins full, with the warmed-up model's embeddings of random images.
        loss: Which loss both terms are; all triplets for ``"triplet"``.
        margin: Similarity above which a pair of two labels is pushed apart, how far a positive must be ahead in a
            triplet, or the mining margin of multi-similarity. None is 0.5, 0.1 and 0.1.
        batch_normalize: How the in-batch term of the contrastive loss is normalised; see
            `torchbank.losses.contrastive`.
        memory_normalize: The same for the memory term. The paper sums over pairs; ``"active"`` is stable when
            training from scratch.
        max_age: Steps after which a row is left out of the loss; None (the paper) is never.
        monitor_drift: Whether drift is read from revisits once the warm-up is over (not in the paper).

    Raises:
        BankValueError: A number is out of range.
    """

    dim: int = 128
    memory: bool = True
    capacity: int | float = 1.0
    memory_weight: float = 1.0
    start_step: int = 1_000
    prefill: bool = True
    loss: Loss = "contrastive"
    margin: float | None = None
    batch_normalize: Normalize = "anchor"
    memory_normalize: Normalize = "anchor"
    max_age: int | None = None
    monitor_drift: bool = True

    def __post_init__(self) -> None:
        check_numbers(self, above_zero=("dim", "capacity"), not_negative=("memory_weight", "start_step", "max_age"))
        for name in ("batch_normalize", "memory_normalize"):
            check_choice(name, getattr(self, name), *get_args(Normalize))
        check_choice("loss", self.loss, *get_args(Loss))


class XBM(nn.Module):
    """Training with cross-batch memory: a pair or triplet loss over the batch, and the same over the memory.

    Args:
        encoder: Images ``(b, c, h, w)`` to embeddings ``(b, dim)``, compared by cosine.
        config: The settings.
        dataset_size: Training images; their ids lie in [0, dataset_size). Needed where the capacity is a share
            of them or drift is monitored.

    Attributes:
        encoder: As given.
        bank: The memory, a `torchbank.MemoryBank` with fields ``label`` and ``id``; None without memory.
        drift: `torchbank.drift.RevisitDrift`; None where drift is not monitored.

    Raises:
        BankValueError: ``dataset_size`` is needed and not given.

    Example:
        >>> import torch
        >>> from torchbank.data import Batch
        >>> from torchbank.methods import XBM, XBMConfig
        >>> encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8))
        >>> method = XBM(encoder, XBMConfig(dim=8, capacity=512, start_step=0), dataset_size=1_000)
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> batch = Batch(torch.rand(4, 1, 8, 8), labels, ids=torch.arange(4))
        >>> output = method(batch, step=0)
        >>> output.loss.backward()
        >>> len(method.bank)
        4
    """

    def __init__(self, encoder: nn.Module, config: XBMConfig, *, dataset_size: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = config
        self.bank = None
        if config.memory:
            fields = {"label": torch.int64, "id": torch.int64}
            self.bank = MemoryBank(rows_of(config.capacity, dataset_size), config.dim, fields=fields, metric="cosine")
        self.drift = None
        if config.monitor_drift:
            self.drift = RevisitDrift(known(dataset_size, "monitor_drift=True keeps a row an image"), config.dim)

    def forward(self, batch: Batch, *, step: int) -> MethodOutput:
        """One step of the paper's algorithm.

        Args:
            batch: Images, labels and ids.
            step: Updates made so far; the memory begins once ``config.start_step`` are made.

        Returns:
            The loss, and as logs each term, for the contrastive loss with its positive pairs and active negatives
            an anchor, and how full and how old the memory is.
        """
        config = self.config
        embeddings = self.encoder(batch.images)
        warm = step >= config.start_step
        loss, logs = self._term(embeddings, batch, None, rows=len(batch.ids), step=step)
        if self.bank is not None and warm:
            # The batch is remembered before the memory is read, as in the paper.
            self.bank.push(embeddings, label=batch.labels, id=batch.ids, step=step)
            logs |= memory_logs(self.bank, step)
            memory_loss, more = self._term(embeddings, batch, self.bank, rows=logs["memory_rows"], step=step)
            loss, logs = loss + config.memory_weight * memory_loss, logs | more
        if self.drift is not None and warm:
            self.drift.observe(embeddings, batch.ids, step=step)
        return MethodOutput(loss, logs)

    def _term(
        self, embeddings: Tensor, batch: Batch, bank: MemoryBank | None, *, rows: int | Tensor, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss over the batch itself or over the memory, and what to log of it."""
        config, term = self.config, "batch" if bank is None else "memory"
        margin = _MARGINS[config.loss] if config.margin is None else config.margin
        # An image's own copies, in the batch or remembered, are no pairs.
        compared: dict[str, Any] = {"labels": batch.labels, "ids": batch.ids, "max_age": config.max_age, "step": step}
        if config.loss == "triplet":
            loss = losses.triplet(embeddings, bank, margin=margin, **compared)
        elif config.loss == "multi-similarity":
            loss = losses.multi_similarity(embeddings, bank, epsilon=margin, **compared)
        else:
            pairs = losses.contrastive_pairs(embeddings, bank, margin=margin, **compared)
            loss = pairs.loss(config.batch_normalize if bank is None else config.memory_normalize)
            return loss, _pair_logs(term, pairs, loss, rows=rows)
        return loss, {f"{term}_loss": loss.detach()}

    def wants_prefill(self, step: int) -> bool:
        """Whether `prefill` is due before this step: once, when the warm-up is over."""
        return self.bank is not None and self.config.prefill and step == self.config.start_step

    def prefill(self, batches: Iterable[Batch]) -> None:
        """Fill the memory with the warmed-up model's embeddings of random training images.

        The encoder runs in evaluation mode, so that nothing of it changes and no random number is drawn.

        Args:
            batches: Random training images; taken until the memory is full.
        """
        if self.bank is None:
            return
        encoded = encode(self.encoder, _until(self.bank.capacity, batches))
        embeddings, labels, ids = (tensor.to(self.bank.device) for tensor in encoded)
        self.bank.push(embeddings, label=labels, id=ids, step=self.config.start_step)

    def after_step(self) -> None:
        """Nothing: the memory holds the online encoder's embeddings, there is no teacher to move."""


def _until(rows: int, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches, as many as hold that many rows."""
    for batch in batches:
        yield batch
        rows -= len(batch.ids)
        if rows <= 0:
            return


def _pair_logs(term: str, pairs: ContrastivePairs, loss: Tensor, *, rows: int | Tensor) -> dict[str, Tensor]:
    """The term, its pairs an anchor, the fraction of rows that are active, and how similar positives are."""
    positives = pairs.positives.count.sum()
    distance = pairs.positives.value.detach().sum() / positives.clamp_min(1)
    return {
        f"{term}_loss": loss.detach(),
        f"{term}_positives": pairs.positives.count.mean(),
        f"{term}_active_negatives": pairs.negatives.count.mean(),
        f"{term}_active_fraction": pairs.negatives.count.mean() / rows,
        f"{term}_positive_similarity": torch.where(positives > 0, 1 - distance, 0.0),
    }
