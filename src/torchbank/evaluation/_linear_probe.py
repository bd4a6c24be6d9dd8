"""What a linear layer can read off frozen features."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torchbank.errors import BankValueError
from torchbank.evaluation._doors import Features, common_classes, finite_rows
from torchbank.evaluation._logistic_regression import LinearClassifier, PrincipalAxes, fit_logistic_regression
from torchbank.evaluation._rows_by_class import choose_by_class, low_shot_rows

__all__ = ["WEIGHT_DECAYS", "ProbeScores", "linear_probe", "low_shot"]

# What the choice is among, on features of unit variance and a loss that is a mean.
WEIGHT_DECAYS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
# Of one row a class none can be held out to choose by.
ONE_SHOT_WEIGHT_DECAY = 1e-1
HELD_OUT = 5  # one row in so many


@dataclass(frozen=True)
class ProbeScores:
    """How well a linear classifier does on test rows.

    Attributes:
        accuracy: The share of test rows that it puts in their class, in [0, 1].
        weight_decay: What it was trained with.
        train_rows: How many rows it was trained on.
    """

    accuracy: float
    weight_decay: float
    train_rows: int


@torch.no_grad()
def linear_probe(
    train: Features, test: Features, *, seed: int = 0, weight_decays: float | Sequence[float] = WEIGHT_DECAYS
) -> ProbeScores:
    """Train a linear classifier on frozen features to its optimum, and score it on test rows.

    Features are standardised (mean 0, variance 1 over the training rows), and the classifier is the optimum of
    `mean cross-entropy + weight_decay / 2 * ||W||^2`: no learning rate, no epochs, nothing random. Of several weight
    decays the best is chosen on a fifth of each class's training rows, held out by the seed; of equal ones the
    larger. The classifier is then trained on all training rows. The test rows choose nothing. With one training row a
    class there is nothing to choose by, and 0.1 is taken.

    No augmentation is applied to the features, so accuracies are a little below those of papers that train their
    linear layer on random crops.

    Args:
        train: `(n, d)` embeddings and `(n,)` labels.
        test: The same for the rows that are scored, on the same device.
        seed: Which rows are held out.
        weight_decays: One above 0, or several to choose from.

    Raises:
        BankTypeError: The embeddings are not floating or the labels no integers.
        BankValueError: The shapes do not fit, a row is not finite, there is only one class, a test class has no
            training row, or a weight decay is not above 0.

    Example:
        >>> from torchbank.encoders import Encoded
        >>> generator = torch.Generator().manual_seed(0)
        >>> labels = torch.arange(4).repeat(50)
        >>> features = Encoded(torch.randn(200, 8, generator=generator) + 4 * torch.eye(8)[labels], labels, labels)
        >>> scores = linear_probe(features, features)
        >>> scores.accuracy > 0.95, scores.train_rows
        (True, 200)
    """
    rows = finite_rows(train.embeddings, train.labels, whose="train ")
    queries = finite_rows(test.embeddings, test.labels, whose="test ")
    classes = common_classes(train, test)
    decays = _checked((weight_decays,) if isinstance(weight_decays, int | float) else weight_decays)
    weight_decay = decays[0]
    if len(decays) > 1:
        sizes = classes.train.bincount()
        held_out = choose_by_class(
            classes.train, (sizes / HELD_OUT).round().long().clamp(min=1) * (sizes > 1), seed=seed
        )
        weight_decay = _choose(rows, classes.train, classes.count, held_out, decays)
    axes = PrincipalAxes.of(rows)
    classifier = fit_logistic_regression(
        axes(rows), classes.train, variances=axes.variances, classes=classes.count, weight_decay=weight_decay
    )
    return ProbeScores(classifier.accuracy(axes(queries), classes.test), weight_decay, len(rows))


def low_shot(
    train: Features,
    test: Features,
    *,
    fraction: float,
    seed: int = 0,
    weight_decays: float | Sequence[float] = WEIGHT_DECAYS,
) -> ProbeScores:
    """`linear_probe` with the labels of a small part of the training rows: those of `low_shot_rows`.

    Args:
        train: All training rows.
        test: The rows that are scored.
        fraction: Which part of the training rows, such as 0.01 or 0.1.
        seed: Which rows are drawn, and which of them are held out.
        weight_decays: As for `linear_probe`.

    Raises:
        BankTypeError: See `linear_probe`.
        BankValueError: See `linear_probe` and `low_shot_rows`.

    Example:
        >>> from torchbank.encoders import Encoded
        >>> generator = torch.Generator().manual_seed(0)
        >>> labels = torch.arange(4).repeat(500)
        >>> features = Encoded(torch.randn(2_000, 8, generator=generator) + 4 * torch.eye(8)[labels], labels, labels)
        >>> low_shot(features, features, fraction=0.01).train_rows
        20
    """
    rows = low_shot_rows(train.labels, fraction=fraction, seed=seed)
    few = SimpleNamespace(embeddings=train.embeddings[rows], labels=train.labels[rows])
    return linear_probe(few, test, seed=seed, weight_decays=weight_decays)


def _checked(decays: Sequence[float]) -> list[float]:
    if not decays or not all(0 < decay < float("inf") for decay in decays):
        msg = f"weight_decays is {tuple(decays)}; expected finite numbers above 0, such as 1e-3"
        raise BankValueError(msg)
    return sorted(set(decays), reverse=True)


def _choose(
    rows: Float[Tensor, "n dim"],
    labels: Int64[Tensor, " n"],
    classes: int,
    held_out: Tensor,
    decays: Sequence[float],
) -> float:
    """The weight decay that does best on the rows held out, from the largest down until it gets worse twice."""
    if not held_out.any():
        return ONE_SHOT_WEIGHT_DECAY
    axes = PrincipalAxes.of(rows[~held_out])
    learned, asked = axes(rows[~held_out]), axes(rows[held_out])
    best, best_accuracy, worse = decays[0], -1.0, 0
    classifier: LinearClassifier | None = None
    for decay in decays:
        classifier = fit_logistic_regression(
            learned,
            labels[~held_out],
            variances=axes.variances,
            classes=classes,
            weight_decay=decay,
            start=classifier,
        )
        accuracy = classifier.accuracy(asked, labels[held_out])
        if accuracy > best_accuracy:
            best, best_accuracy, worse = decay, accuracy, 0
        else:
            worse += 1
            if worse == 2:
                break
    return best
