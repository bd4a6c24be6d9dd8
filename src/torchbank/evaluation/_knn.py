"""Weighted k-nearest-neighbour classification of frozen features.

Axes: n (training rows), batch (test rows), k (neighbours), classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torchbank.banks import Rows
from torchbank.errors import BankValueError, check_choice
from torchbank.evaluation._doors import Features, common_classes, unit_rows
from torchbank.evaluation._ranked_lists import BLOCK_SCORES

__all__ = ["KNNScores", "Preset", "knn"]

Preset = Literal["dino", "instdisc"]

# Temperature and ks, as two families of papers report them.
_PRESETS: dict[Preset, tuple[float, tuple[int, ...]]] = {"dino": (0.07, (10, 20, 100, 200)), "instdisc": (0.1, (200,))}


@dataclass(frozen=True)
class KNNScores:
    """Accuracies of weighted k-NN, which say little without their k and temperature.

    Attributes:
        accuracy: For each k, the share of test rows whose class won, in [0, 1].
        temperature: Of the votes.
    """

    accuracy: dict[int, float]
    temperature: float


@torch.no_grad()
def knn(
    train: Features,
    test: Features,
    *,
    preset: Preset = "dino",
    ks: Sequence[int] | None = None,
    temperature: float | None = None,
) -> KNNScores:
    """Classify test rows by the votes of their nearest training rows.

    Each of the k nearest training rows votes for its class with the weight `exp(s / T)`, s its cosine to the test
    row ([Wu et al. 2018, section 3.4](arXiv:1805.01978)). One exact read with the largest k serves all of them.

    Temperatures and ks differ between papers, and so do the numbers:

    | preset | T | k | as in |
    |---|---|---|---|
    | `"dino"` | 0.07 | 10, 20, 100, 200 | [Caron et al. 2021](arXiv:2104.14294) and what followed it |
    | `"instdisc"` | 0.1 | 200 | Wu et al. 2018, MoCo on CIFAR |

    Score the last epoch: the largest score over epochs has been chosen on the test rows.

    Args:
        train: Rows that vote: `(n, d)` embeddings of any length, normalised here, and `(n,)` labels.
        test: Rows that are classified, on the same device.
        preset: Where `ks` and `temperature` come from if they are not given.
        ks: Numbers of neighbours.
        temperature: T, above 0.

    Raises:
        BankTypeError: The embeddings are not floating or the labels no integers.
        BankValueError: The shapes do not fit, a row is not finite or has no direction, there is only one class, a
            test class has no training row, a k is below 1 or larger than the training set, or the temperature is
            not above 0.

    Example:
        >>> from torchbank.encoders import Encoded
        >>> rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> train = Encoded(rows, torch.tensor([0, 0, 1, 1]), torch.arange(4))
        >>> test = Encoded(rows[:2] + 0.1, torch.tensor([0, 1]), torch.arange(2))
        >>> knn(train, test, ks=(1, 3))
        KNNScores(accuracy={1: 0.5, 3: 0.5}, temperature=0.07)
    """
    check_choice("preset", preset, *_PRESETS)
    usual_temperature, usual_ks = _PRESETS[preset]
    temperature = usual_temperature if temperature is None else temperature
    ks = sorted(set(usual_ks if ks is None else ks))
    rows = unit_rows(train.embeddings, train.labels, whose="train ")
    queries = unit_rows(test.embeddings, test.labels, whose="test ")
    classes = common_classes(train, test)
    _check_numbers(ks, temperature, len(rows))
    right = torch.zeros(len(ks), dtype=torch.int64, device=rows.device)
    size = max(1, min(512, BLOCK_SCORES // max(classes.count, ks[-1])))
    for block, wanted in zip(queries.split(size), classes.test.split(size), strict=True):
        found = Rows(rows).nearest(block, ks[-1])
        # Scaled by the largest weight of its row, so that no temperature overflows.
        weights = ((found.scores - found.scores[:, :1]) / temperature).exp().to(torch.float64)
        winners = _winners(weights, classes.train[found.slots], ks, classes.count)
        right += torch.stack([(winner == wanted).sum() for winner in winners])
    accuracies = [count / len(queries) for count in right.tolist()]
    return KNNScores(dict(zip(ks, accuracies, strict=True)), temperature)


def _winners(
    weights: Float[Tensor, "batch k"], labels: Int64[Tensor, "batch k"], ks: Sequence[int], classes: int
) -> Iterator[Int64[Tensor, " batch"]]:
    """The class with the most votes among the first k neighbours, for each k in ascending order."""
    votes = weights.new_zeros(len(weights), classes)
    for begin, end in zip((0, *ks), ks, strict=False):
        votes.scatter_add_(1, labels[:, begin:end], weights[:, begin:end])
        yield votes.argmax(dim=1)


def _check_numbers(ks: Sequence[int], temperature: float, rows: int) -> None:
    if not ks or ks[0] < 1 or ks[-1] > rows:
        msg = (
            f"ks is {tuple(ks)} and there are {rows} training rows; expected neighbours from 1 to {rows}: give ks= "
            "that fit the set"
        )
        raise BankValueError(msg)
    if not 0 < temperature < float("inf"):
        msg = f"temperature is {temperature}; expected a finite number above 0, such as 0.07"
        raise BankValueError(msg)
