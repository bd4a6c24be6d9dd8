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
from torchbank.drift import DriftMonitor, FreshnessGate, LocalDrift, MomentMatching, SlowDrift
from torchbank.encoders import encode
from torchbank.errors import BankValueError, check_choice
from torchbank.losses import ContrastivePairs, Normalize, RowSource
from torchbank.methods._health import memory_logs
from torchbank.methods._output import MethodOutput
from torchbank.methods._pair_statistics import pair_logs, sampled_pair_logs
from torchbank.methods._settings import check_numbers, known, rows_of
from torchbank.reads import PairSum
from torchbank.sharding import Ranks, SharedBank, rows_of_all_ranks

Loss = Literal["contrastive", "triplet", "multi-similarity"]
Correction = Literal["none", "xbn", "axbn", "sdc"]

# The margins of the paper's settings; of multi-similarity it is the one of its mining.
_MARGINS: dict[Loss, float] = {"contrastive": 0.5, "triplet": 0.1, "multi-similarity": 0.1}
# Gradient fidelity is measured once in so many updates: often enough to follow it, and little beside a step.
_MEASURE_EVERY = 100
# Images whose drift over fixed lags is logged.
_PROBES = 32
# Of the Kalman form: the moments that are matched are a mean over some ten batches.
_NOISE_RATIO = 0.01


@dataclass(frozen=True)
class XBMConfig:
    """Settings of `XBM`. Defaults are the paper's unless said otherwise.

    Args:
        dim: Dim of the encoder's embeddings.
        memory: False is plain in-batch training, by the same code.
        capacity: Rows of the memory: an int counts them, a float is a share of the training images.
        memory_weight: Weight of the memory term beside the in-batch term.
        start_step: Steps of warm-up before the memory begins. ``"auto"`` begins when the gate of
            ``max_age="auto"`` would first open.
        prefill: Whether the memory begins full, with the warmed-up model's embeddings of random images.
        loss: Which loss both terms are; all triplets for ``"triplet"``.
        margin: Similarity above which a pair of two labels is pushed apart, how far a positive must be ahead in a
            triplet, or the mining margin of multi-similarity. None is 0.5, 0.1 and 0.1.
        batch_normalize: How the in-batch term of the contrastive loss is normalised; see
            `torchbank.losses.contrastive`.
        memory_normalize: The same for the memory term. The paper sums over pairs; ``"active"`` is stable when
            training from scratch.
        max_age: Steps after which a row is left out of the loss; None (the paper) is never. ``"auto"`` follows the
            measured gradient fidelity, and leaves out every row until that reaches ``fidelity_floor``
            (`torchbank.drift.FreshnessGate`).
        half_life: Steps in which the weight of a row halves; None (the paper) is never.
        correction: What is done about drift before rows are compared (not in the paper): ``"xbn"`` and ``"axbn"`` match
            moments (`torchbank.drift.MomentMatching`), ``"sdc"`` compensates local drift
            (`torchbank.drift.LocalDrift`).
        fidelity_floor: The gradient fidelity at which ``"auto"`` begins, in (-1, 1).
        monitor_drift: Whether drift and gradient fidelity are measured on revisits once the warm-up is over, and for
            ``"auto"`` in it too (not in the paper); ``"auto"`` and ``"sdc"`` need it.

    Raises:
        BankValueError: A number is out of range, a word is unknown, or drift is needed and not monitored.
    """

    dim: int = 128
    memory: bool = True
    capacity: int | float = 1.0
    memory_weight: float = 1.0
    start_step: int | Literal["auto"] = 1_000
    prefill: bool = True
    loss: Loss = "contrastive"
    margin: float | None = None
    batch_normalize: Normalize = "anchor"
    memory_normalize: Normalize = "anchor"
    max_age: int | Literal["auto"] | None = None
    half_life: float | None = None
    correction: Correction = "none"
    fidelity_floor: float = 0.3
    monitor_drift: bool = True

    def __post_init__(self) -> None:
        numbers = [name for name in ("start_step", "max_age") if getattr(self, name) != "auto"]
        check_numbers(self, above_zero=("dim", "capacity", "half_life"), not_negative=("memory_weight", *numbers))
        for name in ("batch_normalize", "memory_normalize"):
            check_choice(name, getattr(self, name), *get_args(Normalize))
        check_choice("loss", self.loss, *get_args(Loss))
        check_choice("correction", self.correction, *get_args(Correction))
        FreshnessGate(floor=self.fidelity_floor)
        if not self.monitor_drift and ("auto" in (self.start_step, self.max_age) or self.correction == "sdc"):
            msg = "start_step='auto', max_age='auto' and correction='sdc' follow drift; leave monitor_drift=True"
            raise BankValueError(msg)


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
        drift: `torchbank.drift.DriftMonitor`; None where drift is not monitored.
        gate: `torchbank.drift.FreshnessGate`, the age limit of ``max_age="auto"``.
        correction: What rows go through before they are compared, or None.

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
        self.drift = self.slow_drift = None
        self._probes: Batch | None = None
        if config.monitor_drift:
            instances = known(dataset_size, "monitor_drift=True keeps a row an image")
            self.drift = DriftMonitor(config.dim, instances=instances, fields={"label": torch.int64})
            self.slow_drift = SlowDrift(min(_PROBES, instances), config.dim)
        self.ranks = Ranks.alone()
        self.gate = FreshnessGate(floor=config.fidelity_floor)
        self.correction = _build_correction(config)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        # The step at which the memory begins; -1 for one that is not known yet.
        start = -1 if config.start_step == "auto" else config.start_step
        self.register_buffer("started", torch.full((), start, dtype=torch.int64))
        self._read_counters()
        self.register_load_state_dict_post_hook(lambda module, _: module._read_counters())

    def forward(self, batch: Batch, *, step: int) -> MethodOutput:
        """One step of the paper's algorithm.

        Args:
            batch: Images, labels and ids.
            step: Updates made so far; the memory begins once ``config.start_step`` are made.

        Returns:
            The loss, and as logs each term with its positive pairs and active negatives an anchor and how far apart
            both are, and how full and how old the memory is. For other losses than the contrastive, pairs are counted
            as that of margin 0.5 would.
        """
        config = self.config
        embeddings = self.encoder(batch.images)
        if step == self._started and self.drift is not None:
            # What was seen in the warm-up has told the gate; the tables are of the memory.
            self.drift.reset()
        begun = 0 <= self._started <= step
        # An image's own copies, in the batch or remembered, are no pairs.
        own: dict[str, Any] = {"labels": batch.labels, "ids": batch.ids}
        loss, logs = self._batch_term(embeddings, **own)
        if begun or "auto" in (config.start_step, config.max_age):
            self._look(embeddings, batch, step=step)
        if self.bank is not None and begun:
            # The batch is remembered before the memory is read, as in the paper.
            self.bank.push(embeddings, label=batch.labels, id=batch.ids, step=step)
            logs |= memory_logs(self.bank, step)
            if config.max_age == "auto":
                logs["memory_age_limit"] = self.gate.limit.clamp_max(step)
            ages = {"max_age": self._max_age(), "half_life": config.half_life, "step": step}
            memory = self.bank if self.correction is None else self.bank.transformed(self.correction)
            memory_loss, more = self._term("memory", embeddings, memory, rows=logs["memory_rows"], **own, **ages)
            loss, logs = loss + config.memory_weight * memory_loss, logs | more
        if self.slow_drift is not None and self._probes is not None and self.slow_drift.due(step):
            now = encode(self.encoder, [self._probes]).embeddings.to(embeddings.device)
            logs |= {f"drift_{lag}": value for lag, value in self.slow_drift.observe(now, step=step).items()}
        return MethodOutput(loss, logs)

    def probe(self, batches: Iterable[Batch]) -> None:
        """Take the images whose drift over 10, 100 and 1,000 steps is logged from here on.

        Args:
            batches: Training images, the same each time; up to 32 of them are kept, but not in the state.
        """
        if self.slow_drift is not None:
            columns = zip(*_until(_PROBES, batches), strict=True)
            self._probes = Batch(*(torch.cat(column)[:_PROBES] for column in columns))

    def _look(self, embeddings: Tensor, batch: Batch, *, step: int) -> None:
        """Tell monitor and correction what the encoder makes of these images now."""
        now = nn.functional.normalize(embeddings.detach().float(), dim=1)
        if isinstance(self.correction, MomentMatching):
            self.correction.observe(now)
        if self.drift is not None:
            found = self.drift.observe(now, batch.ids, step=step, label=batch.labels)
            if isinstance(self.correction, LocalDrift):
                self.correction.observe(found, step=step)

    def _term(
        self, term: str, embeddings: Tensor, source: RowSource | None, *, rows: int | Tensor, **compared: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss over the batch itself or over the memory, and what to log of it."""
        if self.config.loss == "contrastive":
            pairs = losses.contrastive_pairs(embeddings, source, margin=self.margin, **compared)
            if source is not None:
                pairs = _of_all_ranks(pairs, self.ranks)
            loss = pairs.loss(self.config.batch_normalize if source is None else self.config.memory_normalize)
            logs = pair_logs(term, pairs, rows=rows)
        else:
            loss = self._loss(embeddings, source, **compared)
            logs = sampled_pair_logs(term, embeddings, source, rows=rows, **compared)
        return loss, {f"{term}_loss": loss.detach(), **logs}

    def _batch_term(self, embeddings: Tensor, *, labels: Tensor, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss over the batch itself: that of this process, or of all that share one."""
        labels, ids = self.ranks.gather(labels, ids).columns
        return self._term(
            "batch", rows_of_all_ranks(embeddings, self.ranks), None, rows=len(ids), labels=labels, ids=ids
        )

    def share_batch(self, ranks: Ranks) -> None:
        """Count the batches of several processes as one from here on.

        The batch term is over the images of all of them, and the contrastive memory term is divided by the pairs of
        all; with `torchbank.sharding.share_batch_norm` and a shared bank the processes learn what one would learn from
        the whole batch. Of other losses the memory term is the mean over each process's own images.

        Args:
            ranks: The processes, all of which have batches of one size.
        """
        self.ranks = ranks

    def row_loss(self, queries: Tensor, rows: RowSource, fields: dict[str, Tensor]) -> Tensor:
        """The memory term over any rows, for `torchbank.drift.DriftMonitor.measure`.

        Args:
            queries: ``(batch, dim)``.
            rows: With fields ``label`` and ``id``.
            fields: Those of the queries.
        """
        return self._loss(queries, rows, labels=fields["label"], ids=fields["id"])

    def _loss(self, embeddings: Tensor, source: RowSource | None, **compared: Any) -> Tensor:
        """The memory term over any rows, or another loss than the contrastive over the batch."""
        if self.config.loss == "triplet":
            return losses.triplet(embeddings, source, margin=self.margin, **compared)
        if self.config.loss == "multi-similarity":
            return losses.multi_similarity(embeddings, source, epsilon=self.margin, **compared)
        normalize = self.config.memory_normalize
        return losses.contrastive(embeddings, source, margin=self.margin, normalize=normalize, **compared)

    def _max_age(self) -> int | Tensor | None:
        return self.gate.limit if self.config.max_age == "auto" else self.config.max_age

    @property
    def margin(self) -> float:
        """That of the settings, or the paper's for the loss."""
        return _MARGINS[self.config.loss] if self.config.margin is None else self.config.margin

    def wants_prefill(self, step: int) -> bool:
        """Whether `prefill` is due before this step: once, when the warm-up is over."""
        return self.bank is not None and self.config.prefill and step == self._started

    def prefill(self, batches: Iterable[Batch]) -> None:
        """Fill the memory with the warmed-up model's embeddings of random training images.

        The encoder runs in evaluation mode, so that nothing of it changes and no random number is drawn.

        Args:
            batches: Random training images, other ones on each rank that shares the memory; taken until it is full.
        """
        if self.bank is None:
            return
        ranks = self.bank.ranks.size if isinstance(self.bank, SharedBank) else 1
        encoded = encode(self.encoder, _until(-(-self.bank.capacity // ranks), batches))
        embeddings, labels, ids = (tensor.to(self.bank.device) for tensor in encoded)
        self.bank.push(embeddings, label=labels, id=ids, step=self._started)

    def after_step(self) -> None:
        """Measure fidelity now and then, and follow it; there is no teacher to move."""
        self.updates += 1
        self._updates += 1
        if self.drift is None or self._updates % _MEASURE_EVERY:
            return
        self.drift.measure(self.row_loss)
        if self.bank is not None:
            # Ranks that share the memory begin together, and leave out the same rows.
            self.drift.agree(self.bank)
        self.gate.follow(self.drift)
        if self._started < 0 and self.gate.is_open:
            self._started = int(self.drift.clock) + 1
            self.started.fill_(self._started)

    def _read_counters(self) -> None:
        """Host copies, so that a step need not wait for the device to know whether something is due."""
        self._updates, self._started = int(self.updates), int(self.started)


def _of_all_ranks(pairs: ContrastivePairs, ranks: Ranks) -> ContrastivePairs:
    """Those of the queries of all ranks."""
    if ranks.size == 1:
        return pairs
    positives, negatives = (
        PairSum(rows_of_all_ranks(side.value, ranks), ranks.gather(side.count).columns[0])
        for side in (pairs.positives, pairs.negatives)
    )
    return ContrastivePairs(positives, negatives, pairs.margin)


def _build_correction(config: XBMConfig) -> MomentMatching | LocalDrift | None:
    if config.correction == "sdc":
        return LocalDrift(config.dim)
    if config.correction == "axbn":
        return MomentMatching(config.dim, noise_ratio=_NOISE_RATIO)
    return MomentMatching(config.dim) if config.correction == "xbn" else None


def _until(rows: int, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches, as many as hold that many rows."""
    for batch in batches:
        yield batch
        rows -= len(batch.ids)
        if rows <= 0:
            return
