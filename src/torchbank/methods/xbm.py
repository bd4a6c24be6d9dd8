"""Cross-batch memory: each batch is also compared with the embeddings of the batches before it.

[Wang, Zhang, Huang and Scott 2020](arXiv:1912.06798), algorithm 1, with the warm-up and the pre-filled memory of
its section 3.3.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

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
        margin: Similarity above which a pair of two labels is pushed apart.
        batch_normalize: How the in-batch term is normalised; see `torchbank.losses.contrastive`.
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
    margin: float = 0.5
    batch_normalize: Normalize = "anchor"
    memory_normalize: Normalize = "anchor"
    max_age: int | None = None
    monitor_drift: bool = True

    def __post_init__(self) -> None:
        check_numbers(self, above_zero=("dim", "capacity"), not_negative=("memory_weight", "start_step", "max_age"))
        for name in ("batch_normalize", "memory_normalize"):
            check_choice(name, getattr(self, name), *get_args(Normalize))


class XBM(nn.Module):
    """Contrastive training with cross-batch memory.

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
            The loss, and as logs each term with its positive pairs and active negatives an anchor, and how full
            and how old the memory is.
        """
        config = self.config
        embeddings = self.encoder(batch.images)
        warm = step >= config.start_step
        # An image's own copies, in the batch or remembered, are no pairs.
        compared = {"labels": batch.labels, "ids": batch.ids, "margin": config.margin}
        pairs = losses.contrastive_pairs(embeddings, None, **compared)
        loss = pairs.loss(config.batch_normalize)
        logs = _pair_logs("batch", pairs, loss, rows=len(batch.ids))
        if self.bank is not None and warm:
            # The batch is remembered before the memory is read, as in the paper.
            self.bank.push(embeddings, label=batch.labels, id=batch.ids, step=step)
            pairs = losses.contrastive_pairs(embeddings, self.bank, **compared, max_age=config.max_age, step=step)
            memory_loss = pairs.loss(config.memory_normalize)
            loss = loss + config.memory_weight * memory_loss
            logs |= memory_logs(self.bank, step)
            logs |= _pair_logs("memory", pairs, memory_loss, rows=logs["memory_rows"])
        if self.drift is not None and warm:
            self.drift.observe(embeddings, batch.ids, step=step)
        return MethodOutput(loss, logs)

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
