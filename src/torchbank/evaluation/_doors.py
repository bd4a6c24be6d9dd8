"""What the protocols ask of embeddings and labels, and what they say where it is not met."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from torchbank.errors import BankTypeError, BankValueError

__all__ = ["Classes", "Features", "common_classes", "finite_rows", "unit_rows"]


@runtime_checkable
class Features(Protocol):
    """A data set as an encoder sees it: `torchbank.encoders.Encoded`, or anything with its first two attributes."""

    @property
    def embeddings(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...


class Classes(NamedTuple):
    """Labels as numbers from 0 on.

    Attributes:
        train: `(n,)` int64.
        test: `(m,)` int64.
        count: How many classes the training rows have.
    """

    train: Int64[Tensor, " n"]
    test: Int64[Tensor, " m"]
    count: int


def common_classes(train: Features, test: Features) -> Classes:
    """Number the classes of the training rows, and give the test rows the same numbers.

    Raises:
        BankValueError: The two do not fit together, there is only one class, or a test class has no training row.
    """
    if train.embeddings.shape[1:] != test.embeddings.shape[1:] or train.embeddings.device != test.embeddings.device:
        msg = (
            f"train embeddings are {tuple(train.embeddings.shape)} on {train.embeddings.device} and test embeddings "
            f"{tuple(test.embeddings.shape)} on {test.embeddings.device}; expected one dim and one device: use one "
            "encoder for both"
        )
        raise BankValueError(msg)
    if not len(test.labels):
        msg = "there are no test rows; expected one at least"
        raise BankValueError(msg)
    names, numbers = train.labels.unique(return_inverse=True)
    if len(names) < 2:
        msg = (
            f"the {len(train.labels)} training rows have {len(names)} class; expected two at least, since with one "
            "every prediction is right"
        )
        raise BankValueError(msg)
    asked = test.labels.to(names.dtype).unique()
    unknown = asked[~torch.isin(asked, names)]
    if len(unknown):
        msg = (
            f"{len(unknown)} of {len(asked)} test classes (the first is {int(unknown[0])}) have no training row; "
            "expected test classes among those of the training rows: for classes that were never seen, split "
            "their own rows with support_and_query"
        )
        raise BankValueError(msg)
    return Classes(numbers, torch.searchsorted(names, test.labels.to(names.dtype)), len(names))


def unit_rows(embeddings: Tensor, labels: Tensor, *, whose: str = "") -> Float[Tensor, "n dim"]:
    """Normalise embeddings that all have a direction.

    Args:
        embeddings: `(n, d)`.
        labels: `(n,)`, checked as well.
        whose: "train " or "test ", for messages.

    Raises:
        BankTypeError: The embeddings are not floating or the labels no integers.
        BankValueError: The shapes do not fit, or a row is not finite or zero.
    """
    _check_shapes(embeddings, labels, whose)
    rows = _computed(embeddings)
    norms = rows.norm(dim=1)
    _refuse(~(norms.isfinite() & (norms > 0)), "not finite or zero", "vectors with a direction", whose)
    return normalize(rows, dim=1)


def finite_rows(embeddings: Tensor, labels: Tensor, *, whose: str = "") -> Float[Tensor, "n dim"]:
    """Embeddings in at least float32.

    Args:
        embeddings: `(n, d)`.
        labels: `(n,)`, checked as well.
        whose: "train " or "test ", for messages.

    Raises:
        BankTypeError: The embeddings are not floating or the labels no integers.
        BankValueError: The shapes do not fit, or a row is not finite.
    """
    _check_shapes(embeddings, labels, whose)
    rows = _computed(embeddings)
    _refuse(~rows.isfinite().all(dim=1), "not finite", "finite numbers", whose)
    return rows


def _computed(embeddings: Tensor) -> Tensor:
    return embeddings if embeddings.dtype == torch.float64 else embeddings.to(torch.float32)


def _check_shapes(embeddings: Tensor, labels: Tensor, whose: str) -> None:
    if not embeddings.is_floating_point() or labels.is_floating_point() or labels.is_complex():
        msg = (
            f"{whose}embeddings are {embeddings.dtype} and labels {labels.dtype}; expected floating embeddings, "
            "integer labels"
        )
        raise BankTypeError(msg)
    if embeddings.dim() != 2 or labels.shape != embeddings.shape[:1] or labels.device != embeddings.device:
        msg = (
            f"{whose}embeddings are {tuple(embeddings.shape)} on {embeddings.device} and labels {tuple(labels.shape)} "
            f"on {labels.device}; expected (n, dim) and (n,) on one device"
        )
        raise BankValueError(msg)


def _refuse(bad: Tensor, what: str, expected: str, whose: str) -> None:
    if bad.any():
        msg = (
            f"{int(bad.sum())} of {len(bad)} {whose}embeddings are {what}, the first in row {int(bad.nonzero()[0])}; "
            f"expected {expected}: look for a diverged training or an empty image"
        )
        raise BankValueError(msg)
