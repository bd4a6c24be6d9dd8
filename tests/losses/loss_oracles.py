"""The losses in their textbook form, on whole float64 matrices, and the settings they are compared in.

Axes: batch (queries), rows (of the bank).
"""

from dataclasses import dataclass, field
from typing import Any

import torch

import torchbank as tb

BATCH, ROWS, DIM, STEP = 7, 30, 6, 9


@dataclass(frozen=True)
class Setting:
    """What the loss is given as row selection, and what that means as a mask and a log-weight."""

    name: str
    keywords: dict[str, Any] = field(default_factory=dict)
    kept: torch.Tensor | None = None
    bias: torch.Tensor | None = None


@dataclass(frozen=True)
class Case:
    """Queries, a bank, and its rows as plain tensors."""

    queries: torch.Tensor
    positives: torch.Tensor
    labels: torch.Tensor
    ids: torch.Tensor
    bank: Any
    rows: torch.Tensor
    fields: dict[str, torch.Tensor]
    ages: torch.Tensor

    def settings(self) -> list[Setting]:
        """One of each kind of row selection."""
        cameras = torch.arange(BATCH) % 3
        ids_agree = self.ids[:, None] == self.fields["id"]
        cameras_agree = cameras[:, None] == self.fields["camera"]
        bias = torch.linspace(-2, 1, ROWS, dtype=torch.float64)
        bias[::5] = -torch.inf
        young = (self.ages <= 3).expand(BATCH, ROWS)
        half = -torch.log(torch.tensor(2.0)) * self.ages.double() / 4
        return [
            Setting("all"),
            Setting("exclude", {"exclude": {"id": self.ids}}, ~ids_agree),
            Setting("exclude_both", {"exclude": {"id": self.ids, "camera": cameras}}, ~(ids_agree & cameras_agree)),
            Setting("exclude_any", {"exclude": [{"id": self.ids}, {"camera": cameras}]}, ~(ids_agree | cameras_agree)),
            Setting("include", {"include": {"camera": cameras}}, cameras_agree),
            Setting("include_any", {"include": [{"camera": cameras}, {"id": self.ids}]}, cameras_agree | ids_agree),
            Setting("max_age", {"max_age": 3, "step": STEP}, young),
            Setting("half_life", {"half_life": 4.0, "step": STEP}, None, half),
            Setting("bias", {"bias": bias.float()}, None, bias.float().double()),
            Setting(
                "together",
                {"exclude": {"id": self.ids}, "max_age": 3, "half_life": 4.0, "step": STEP},
                ~ids_agree & young,
                half,
            ),
        ]


def make_case(metric: str = "cosine", seed: int = 0) -> Case:
    """A bank of three pushes at steps 1, 5 and 8, and float64 queries."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    bank = tb.MemoryBank(ROWS, DIM, fields=dict.fromkeys(("label", "id", "camera"), torch.int64), metric=metric)
    for step in (1, 5, 8):
        count = ROWS // 3
        columns = {
            name: torch.randint(high, (count,), generator=generator)
            for name, high in (("label", 4), ("id", 12), ("camera", 3))
        }
        bank.push(normal(count, DIM).float(), step=step, **columns)
    view = bank.ordered()
    return Case(
        queries=normal(BATCH, DIM),
        positives=normal(BATCH, DIM),
        labels=torch.tensor([0, 1, 2, 3, 0, 1, 9]),  # 9 is the label of no row
        ids=torch.arange(BATCH),
        bank=bank,
        rows=view.embeddings.double(),
        fields=view.fields,
        ages=STEP - view.steps,
    )


def unit(embeddings: torch.Tensor, metric: str = "cosine") -> torch.Tensor:
    """On the sphere where the metric asks for it."""
    return embeddings / embeddings.norm(dim=1, keepdim=True) if metric == "cosine" else embeddings


def log_weights(setting: Setting, batch: int, rows: int) -> torch.Tensor:
    """0 where a row is kept, -inf where it is left out, plus the bias."""
    weights = torch.zeros(batch, rows, dtype=torch.float64)
    if setting.kept is not None:
        weights = weights.masked_fill(~setting.kept, -torch.inf)
    return weights if setting.bias is None else weights + setting.bias


def info_nce(positive: torch.Tensor, negative: torch.Tensor, log_weight: torch.Tensor) -> torch.Tensor:
    """(batch,) losses from logits (batch,) and (batch, rows): cross-entropy over their concatenation."""
    logits = torch.cat([positive[:, None], negative + log_weight], dim=1)
    target = torch.zeros(len(logits), dtype=torch.int64)
    return torch.nn.functional.cross_entropy(logits, target, reduction="none")


def sup_con(logits: torch.Tensor, same: torch.Tensor, log_weight: torch.Tensor) -> torch.Tensor:
    """(batch,) losses: minus the weighted mean over positives of their log-probability, less its constants."""
    values = []
    for row, row_same, row_weight in zip(logits, same, log_weight, strict=True):
        chosen = row_same & (row_weight > -torch.inf)
        if not chosen.any():
            values.append(row.sum() * 0)
            continue
        weight = row_weight[chosen].exp()
        log_probability = row[chosen] - (row + row_weight).logsumexp(0)
        values.append(-(weight * log_probability).sum() / weight.sum())
    return torch.stack(values)


def contrastive(
    scores: torch.Tensor, same: torch.Tensor, log_weight: torch.Tensor, margin: float, normalize: str
) -> torch.Tensor:
    """(batch,) losses, pair by pair."""
    weight = log_weight.exp()
    active = ~same & (scores > margin)
    if normalize == "anchor":
        pairs = weight * (same * (1 - scores) + active * scores)
        return pairs.sum(1)
    pull = (weight * same * (1 - scores)).sum(1) / (weight * same).sum().clamp_min(1e-300)
    push = (weight * active * (scores - margin)).sum(1) / (weight * active).sum().clamp_min(1e-300)
    return len(scores) * (pull + push)


def triplet(
    scores: torch.Tensor, same: torch.Tensor, log_weight: torch.Tensor, margin: float, mining: str
) -> torch.Tensor:
    """(batch,) losses from the tensor of all triplets (batch, positives, negatives)."""
    weight = log_weight.exp()
    positive, negative = weight * same, weight * ~same
    hinge = scores[:, None, :] - scores[:, :, None] + margin
    counted = positive[:, :, None] * negative[:, None, :] * (hinge > 0)
    if mining == "semi-hard":
        counted = counted * (scores[:, None, :] < scores[:, :, None])
    if mining == "hardest":
        lowest = scores.masked_fill(positive == 0, torch.inf).argmin(1)
        highest = scores.masked_fill(negative == 0, -torch.inf).argmax(1)
        line = torch.arange(len(scores))
        return (counted * hinge)[line, lowest, highest]
    # The mean over what is not zero: pytorch-metric-learning's AvgNonZeroReducer, Hermans et al.'s "batch all".
    return len(scores) * (counted * hinge).sum((1, 2)) / counted.sum().clamp_min(1e-300)


def multi_similarity(
    scores: torch.Tensor,
    same: torch.Tensor,
    log_weight: torch.Tensor,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    epsilon: float = 0.1,
) -> torch.Tensor:
    """(batch,) losses, query by query, as Wang et al. write them."""
    values = []
    for row, row_same, row_weight in zip(scores, same, log_weight, strict=True):
        positive, negative = row_same & (row_weight > -torch.inf), ~row_same & (row_weight > -torch.inf)
        if not positive.any() or not negative.any():
            values.append(row.sum() * 0)
            continue
        lowest, highest = row[positive].min().detach(), row[negative].max().detach()
        positive, negative = positive & (row - epsilon < highest), negative & (row + epsilon > lowest)
        pull = (row_weight - alpha * (row - base))[positive]
        push = (row_weight + beta * (row - base))[negative]
        one = row.new_zeros(1)
        values.append(torch.cat([one, pull]).logsumexp(0) / alpha + torch.cat([one, push]).logsumexp(0) / beta)
    return torch.stack(values)


def reduce(values: torch.Tensor, reduction: str) -> torch.Tensor:
    """By name."""
    return {"none": values, "sum": values.sum(), "mean": values.mean()}[reduction]


def assert_same_with_gradients(loss: torch.Tensor, expected: torch.Tensor, queries: torch.Tensor) -> None:
    """Values (batch,) and their gradients by the queries."""
    upstream = torch.linspace(-1, 2, len(expected)).double()
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    (ours,) = torch.autograd.grad(loss, queries, upstream)
    (theirs,) = torch.autograd.grad(expected, queries, upstream)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)
