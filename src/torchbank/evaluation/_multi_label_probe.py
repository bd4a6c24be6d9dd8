"""What a linear layer can read off frozen features where a row may have several labels, or none."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchbank.errors import BankValueError
from torchbank.evaluation._doors import finite_rows
from torchbank.evaluation._logistic_regression import PrincipalAxes, fit_logistic_regression

__all__ = ["MultiLabelScores", "average_precision", "multi_label_probe"]


@dataclass(frozen=True)
class MultiLabelScores:
    """How well each label is found among test rows.

    Attributes:
        average_precisions: One a label; None for a label that no training row or no test row has, or every training
            row, so that there is nothing to learn or to find.
        train_rows: How many rows were trained on.
    """

    average_precisions: tuple[float | None, ...]
    train_rows: int

    @property
    def mean_average_precision(self) -> float:
        """The mean over the labels that have one."""
        found = [value for value in self.average_precisions if value is not None]
        return sum(found) / len(found)


def average_precision(scores: Float[Tensor, " n"], wanted: Bool[Tensor, " n"]) -> float:
    """The mean of the precision at each wanted row, from the highest score down.

    Rows of equal scores are counted together, so that their order does not matter.

    Args:
        scores: Larger is likelier.
        wanted: Which rows have the label; at least one.

    Raises:
        BankValueError: The shapes differ, or no row is wanted.

    Example:
        >>> average_precision(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([True, False, True]))
        0.8333333333333333
    """
    if scores.shape != wanted.shape or not wanted.any():
        msg = (
            f"there are {scores.shape[0]} scores, and {int(wanted.sum())} of {wanted.shape[0]} rows are wanted; "
            "expected as many of both, and one wanted row or more"
        )
        raise BankValueError(msg)
    order = scores.argsort(descending=True)
    ranked, hits = scores[order], wanted[order].double().cumsum(dim=0)
    # The last row of each run of equal scores.
    ends = torch.cat([torch.nonzero(ranked[1:] != ranked[:-1])[:, 0], torch.tensor([len(ranked) - 1]).to(order)])
    precision = hits[ends] / (ends + 1)
    gained = hits[ends].diff(prepend=hits.new_zeros(1))
    return float((precision * gained).sum() / hits[-1])


@torch.no_grad()
def multi_label_probe(
    train: Float[Tensor, "n dim"],
    train_labels: Bool[Tensor, "n labels"],
    test: Float[Tensor, "m dim"],
    test_labels: Bool[Tensor, "m labels"],
    *,
    weight_decay: float = 1e-2,
) -> MultiLabelScores:
    """Train a linear classifier of each label against all other rows, and rank the test rows by it.

    As `linear_probe`: features are standardised and each classifier is the optimum, so that nothing is random.

    Args:
        train: `(n, d)` features.
        train_labels: `(n, labels)` bool.
        test: `(m, d)` features of the rows that are scored.
        test_labels: `(m, labels)` bool.
        weight_decay: Of the classifiers.

    Raises:
        BankTypeError: The features are not floating.
        BankValueError: The shapes do not fit, a row is not finite, the weight decay is not above 0, or there is no
            label to score.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> labels = torch.rand(200, 3, generator=generator) < 0.3
        >>> features = labels.float() + 0.1 * torch.randn(200, 3, generator=generator)
        >>> multi_label_probe(features, labels, features, labels).mean_average_precision
        1.0
    """
    rows = finite_rows(train, torch.arange(len(train_labels)), whose="train ")
    queries = finite_rows(test, torch.arange(len(test_labels)), whose="test ")
    _check(train_labels, test_labels, weight_decay)
    axes = PrincipalAxes.of(rows)
    learned, asked = axes(rows), axes(queries)
    scores: list[float | None] = []
    for label in range(train_labels.shape[1]):
        wanted, found = train_labels[:, label], test_labels[:, label]
        if not wanted.any() or wanted.all() or not found.any():
            scores.append(None)
            continue
        classifier = fit_logistic_regression(
            learned, wanted.long(), variances=axes.variances, classes=2, weight_decay=weight_decay
        )
        margin = asked @ (classifier.weight[:, 1] - classifier.weight[:, 0])
        scores.append(average_precision(margin, found))
    if all(score is None for score in scores):
        msg = "no label is on some but not all training rows and on a test row; there is nothing to score"
        raise BankValueError(msg)
    return MultiLabelScores(tuple(scores), len(rows))


def _check(train_labels: Tensor, test_labels: Tensor, weight_decay: float) -> None:
    if train_labels.dim() != 2 or test_labels.dim() != 2 or train_labels.shape[1] != test_labels.shape[1]:
        msg = (
            f"the labels are {tuple(train_labels.shape)} and {tuple(test_labels.shape)}; expected (rows, labels) of as "
            "many labels"
        )
        raise BankValueError(msg)
    if not 0 < weight_decay < float("inf"):
        msg = f"weight_decay is {weight_decay}; expected a finite number above 0, such as 1e-2"
        raise BankValueError(msg)
