"""How stale a memory is, what that costs, and how large it may be.

Axes: batch (instances of one step), rows (rows of a memory), ages (buckets of age).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from torchbank.banks import Bank, BankView, Rows
from torchbank.drift._age_statistics import AgeStatistics, DriftByAge
from torchbank.drift._fidelity import GradientPair, gradient_of
from torchbank.drift._levels import age_at_level, recommended_capacity
from torchbank.drift._recent_fidelity import RecentFidelity
from torchbank.drift._recent_pairs import RecentPairs
from torchbank.drift._revisit_drift import RevisitDrift, Revisits, squared_distances
from torchbank.errors import BankKeyError, BankStateError, BankValueError

Fields = dict[str, Tensor]
FieldLoss = Callable[[Tensor, Rows, Fields], Tensor]
"""``loss(queries, rows, fields)``: 0-d, of queries ``(batch, dim)`` and their fields over rows that have theirs."""

# A gradient of fewer rows says more of their choice than of their age.
_FEWEST_ROWS = 16
# Queries whose gradient is compared.
_QUERIES = 32


class FidelityByAge(NamedTuple):
    """Gradient fidelity by age, youngest first; only ages that were measured.

    Attributes:
        age: ``(ages,)``, the mean age in steps of the rows in this bucket.
        mean: ``(ages,)``, the mean over measurements of the cosine (see `gradient_fidelity`).
        median: ``(ages,)``, their median, to a few per cent of its distance from 1.
        p10: ``(ages,)``, their 10 % quantile, as exact.
        count: ``(ages,)`` int64, how many measurements.
    """

    age: Float[Tensor, " ages"]
    mean: Float[Tensor, " ages"]
    median: Float[Tensor, " ages"]
    p10: Float[Tensor, " ages"]
    count: Int64[Tensor, " ages"]


class DriftMonitor(nn.Module):
    """Measures drift and gradient fidelity by age from pairs of an old and a new embedding of one thing.

    Pairs come from three places:

    - `observe`, each step: from instances that are seen again, at no forward pass of its own;
    - `observe_pairs`: from wherever you have them, such as a fixed probe set that is encoded again (`SlowDrift`);
    - `observe_rows`: from a sample of a bank's rows, encoded again.

    Drift is counted at once. `measure`, called now and then, compares the gradient of a loss over the old embeddings
    of the latest pairs with that over the new ones, for each bucket of age. Memory is bounded: a record of one row an
    instance, a ring of pairs, and a few kilobytes of statistics. All state is in ``state_dict()``. `observe` and
    `observe_pairs` never wait for the device.

    Args:
        dim: Embedding dim.
        instances: How many there are, with ids in [0, instances); None if only the other two are used.
        fields: What a loss needs to know of an instance beside its ``id``, such as ``{"label": torch.int64}``.
        metric: ``"cosine"`` or ``"dot"``.
        pairs: How many are kept to measure fidelity on.
        device: Where all of this lies.

    Attributes:
        revisits: `RevisitDrift`, or None.
        recent: The fidelity of each age as it was measured lately.
        up_to: The same of a memory that forgets what is older, to one that never ages.

    Example:
        >>> import torch
        >>> from torchbank import losses
        >>> from torchbank.drift import DriftMonitor
        >>> monitor = DriftMonitor(8, instances=256, fields={"label": torch.int64})
        >>> def loss(queries, rows, fields):
        ...     return losses.contrastive(queries, rows, labels=fields["label"], ids=fields["id"], margin=0.0)
        >>> images, weight = torch.randn(256, 16), torch.randn(16, 8)
        >>> for step in range(64):
        ...     weight += 0.02 * torch.randn(16, 8)  # an encoder that drifts
        ...     ids = torch.arange(32) + 32 * (step % 8)
        ...     _ = monitor.observe(images[ids] @ weight, ids, step=step, label=ids % 10)
        >>> monitor.measure(loss)
        >>> monitor.by_age().age.tolist()
        [8.0]
        >>> 0.5 < monitor.fidelity_by_age().mean.item() < 1.0
        True
        >>> monitor.recommended_capacity(budget=0.001) < 8 * 32  # of drift, in squared distance
        True
    """

    def __init__(
        self,
        dim: int,
        *,
        instances: int | None = None,
        fields: Mapping[str, torch.dtype] | None = None,
        metric: str = "cosine",
        pairs: int = 1_024,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.metric = metric
        self.revisits = None if instances is None else RevisitDrift(instances, dim, metric=metric, device=device)
        # Revisits are counted where they are found; where there are none, pairs have a place of their own.
        self.counted = AgeStatistics(device) if self.revisits is None else None
        self.pairs = RecentPairs(pairs, dim, fields={"id": torch.int64, **(fields or {})}, device=device)
        self.lost = AgeStatistics(device)
        self.recent, self.up_to = RecentFidelity(device), RecentFidelity(device)

    # What is seen

    def observe(
        self,
        embeddings: Float[Tensor, "batch dim"],
        ids: Int64[Tensor, " batch"],
        *,
        step: int | Tensor,
        **fields: Tensor,
    ) -> Revisits:
        """Look at the instances of a training step: those that were seen before give a pair each.

        Args:
            embeddings: ``(batch, dim)`` floating.
            ids: ``(batch,)`` int64 in [0, instances).
            step: The training step.
            **fields: Every declared field, ``(batch,)``.

        Returns:
            The pairs, for a correction such as `LocalDrift`.

        Raises:
            BankStateError: The monitor was made without ``instances``.
            BankValueError: Shapes do not fit, an id is out of range, or a row cannot be stored.
            BankKeyError: A field is missing or unknown.
        """
        if self.revisits is None:
            msg = "this monitor keeps no record of instances; make it with instances= the number of them"
            raise BankStateError(msg)
        found = self.revisits.revisits(embeddings, ids, step)
        self.pairs.push(found, step=step, id=ids, **fields)
        return found

    def observe_pairs(
        self,
        before: Float[Tensor, "batch dim"],
        after: Float[Tensor, "batch dim"],
        ages: Int64[Tensor, " batch"],
        *,
        ids: Int64[Tensor, " batch"],
        step: int | Tensor,
        **fields: Tensor,
    ) -> None:
        """Look at pairs of an old and a new embedding.

        Args:
            before: ``(batch, dim)``, embeddings as they were.
            after: ``(batch, dim)``, of the same things, now.
            ages: ``(batch,)`` int64, the steps between.
            ids: ``(batch,)`` int64, which things.
            step: The training step.
            **fields: Every declared field, ``(batch,)``.

        Raises:
            BankValueError: Shapes do not fit, or a row cannot be stored.
            BankKeyError: A field is missing or unknown.
        """
        before, after = (self._as_compared(each.detach().float()) for each in (before, after))
        seen = torch.ones_like(ages, dtype=torch.bool)
        self.pairs.push(Revisits(before, after, ages, seen), step=step, id=ids, **fields)
        self._drift().add(squared_distances(after, before), ages, seen)

    @torch.no_grad()
    def observe_rows(
        self,
        bank: Bank,
        encode: Callable[[BankView], Tensor],
        *,
        rows: int = 256,
        step: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Encode a random sample of a bank's rows again, and look at the pairs. Waits for the device.

        Args:
            bank: The memory, which has every field of the monitor, and ``id``.
            encode: ``encode(rows)`` gives embeddings of the rows it is shown, as for `refresh`.
            rows: How many, or all if there are fewer.
            step: Now; None is the latest stamp of the bank.
            generator: Draws the sample.

        Raises:
            BankKeyError: The bank lacks a field.
        """
        now = bank.clock if step is None else step
        stored = bank.gather(bank.sample(min(rows, len(bank)), generator=generator))
        missing = [name for name in self.pairs.columns if name not in stored.fields]
        if missing:
            msg = f"the bank has no field {missing[0]!r}, which this monitor was told of; declare it there"
            raise BankKeyError(msg)
        fields = {name: stored.fields[name] for name in self.pairs.columns}
        ages, ids = (now - stored.steps).clamp_min(0), fields.pop("id")
        self.observe_pairs(stored.embeddings, encode(stored), ages, ids=ids, step=now, **fields)

    # What it costs

    def measure(self, loss: FieldLoss) -> None:
        """Measure gradient fidelity on the latest pairs, by age. Waits for the device.

        The queries are the newest embeddings that were observed, up to 32. For each octave of age with 16 pairs or
        more, the gradient of its old embeddings is compared with that of its new ones: the fidelity of that age. And
        the gradient of all old embeddings up to that age is compared with that of all new ones of any age: the fidelity
        of a memory that forgets what is older, to the gradient of one that never ages.

        Args:
            loss: ``loss(queries, rows, fields)``: what is trained with.
        """
        known, columns = self.pairs.view(), self.pairs.columns
        newest = self.pairs.newest(_QUERIES)
        queries, fields = known.after[newest], {name: values[newest] for name, values in columns.items()}

        def gradient(side: Tensor, chosen: Tensor) -> Tensor:
            rows = Rows(side[chosen], self.metric, **{name: values[chosen] for name, values in columns.items()})
            return gradient_of(lambda leaf: loss(leaf, rows, fields), queries)

        self.recent.fade()
        self.up_to.fade()
        if not known.seen.any():
            return
        all_fresh = gradient(known.after, known.seen)
        # Octaves: half of them would take twice the time and tell little more.
        buckets = (self.lost.bucket(known.ages) + 1) // 2
        for bucket in buckets[known.seen].unique().tolist():
            chosen, younger = (known.seen & part for part in (buckets == bucket, buckets <= bucket))
            if chosen.sum() < _FEWEST_ROWS:
                continue
            aged = GradientPair.of(gradient(known.before, chosen), gradient(known.after, chosen))
            memory = GradientPair.of(gradient(known.before, younger), all_fresh)
            ages = known.ages[chosen].double()
            self.up_to.add(bucket, ages.max(), memory.cosine())
            self.recent.add(bucket, ages.mean(), aged.cosine())
            lost = (1 - aged.cosine()).clamp_min(0).float()
            self.lost.add(lost[None], ages.mean().round().to(torch.int64)[None], known.seen.any()[None])

    def agree(self, bank: Bank) -> None:
        """Let the ranks that share a bank go on from the mean of what each has measured of fidelity lately.

        Called by all of them after `measure`, it makes `age_within` with ``fidelity=`` and what follows from it, such
        as `FreshnessGate`, the same on each. What each has counted (`by_age`, `fidelity_by_age`) stays its own. Of a
        bank of one process nothing changes.

        Args:
            bank: The memory, on the device of the monitor.
        """
        if bank.is_shared:
            self.recent.average(bank)
            self.up_to.average(bank)

    @property
    def clock(self) -> Tensor:
        """0-d int64, the latest step that was observed."""
        return self.pairs.clock

    def reset(self) -> None:
        """Begin the tables by age anew; each instance's last embedding, the latest pairs and what they said stay."""
        for statistics in (self._drift(), self.lost):
            statistics.reset()

    # What it says

    def by_age(self) -> DriftByAge:
        """The drift that was observed so far, on the CPU.

        Returns:
            `DriftByAge`, empty if nothing was observed.
        """
        return self._drift().by_age()

    def fidelity_by_age(self) -> FidelityByAge:
        """The fidelity that was measured so far, on the CPU.

        Returns:
            `FidelityByAge`, empty if nothing was measured.
        """
        lost = self.lost.by_age()
        return FidelityByAge(lost.age, 1 - lost.mean, 1 - lost.median, 1 - lost.p90, lost.count)

    def age_within(self, *, drift: float | None = None, fidelity: float | None = None) -> float:
        """The age at which the mean drift passes a budget, or fidelity falls below a floor.

        Between the ages that were observed it is interpolated, from no drift and a fidelity of 1 at age 0. Drift is
        that of all that was observed; fidelity is that of the latest measurements, for it changes while training goes
        on. Waits for the device.

        Args:
            drift: The budget, in squared distance.
            fidelity: The floor, below 1.

        Returns:
            The age in steps; infinite where it is not passed at any age that was observed.

        Raises:
            BankValueError: Not one of the two is given, or it is out of range.
        """
        in_range = (drift is None or drift > 0) and (fidelity is None or fidelity < 1)
        if (drift is None) == (fidelity is None) or not in_range:
            msg = f"drift={drift}, fidelity={fidelity}; expected a budget of drift above 0, or a fidelity below 1"
            raise BankValueError(msg)
        if fidelity is not None:
            return age_at_level(*self.recent.by_age(), fidelity, start=1.0)
        by_age = self.by_age()
        return age_at_level(by_age.age, by_age.mean, drift or 0.0, start=0.0)

    def recommended_capacity(self, budget: float, *, batch_size: int | None = None) -> int | None:
        """The rows of a first-in, first-out memory whose oldest row stays within a budget of drift.

        Args:
            budget: In squared distance, above 0.
            batch_size: Rows that a step pushes; None is the mean of what `observe` saw.

        Returns:
            Rows, or None where no age that was observed passes the budget.

        Raises:
            BankValueError: The budget is not above 0, or the batch size is not known.
        """
        if batch_size is None:
            if self.revisits is None or not self.revisits.record.total_pushed:
                msg = "nothing was observed by observe, which tells the batch size; give batch_size="
                raise BankValueError(msg)
            batch_size = round(self.revisits.record.total_pushed / int(self.revisits.record.pushes))
        by_age = self.by_age()
        return recommended_capacity(by_age.age, by_age.mean, budget=budget, batch_size=batch_size)

    def _drift(self) -> Any:
        return self.counted if self.revisits is None else self.revisits.statistics

    def _as_compared(self, embeddings: Tensor) -> Tensor:
        return nn.functional.normalize(embeddings, dim=1) if self.metric == "cosine" else embeddings
