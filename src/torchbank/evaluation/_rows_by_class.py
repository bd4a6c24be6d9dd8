"""Seeded choices of rows, class by class: they depend on the labels and the seed alone, never on an encoder."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from torchbank.errors import BankTypeError, BankValueError

__all__ = ["choose_by_class", "low_shot_rows", "support_and_query"]


def low_shot_rows(labels: Tensor, *, fraction: float, seed: int = 0) -> Int64[Tensor, " chosen"]:
    """Choose a small part of the training rows, as many of each class.

    Of n rows in C classes, `round(fraction * n / C)` are drawn from each; a class that is smaller gives all it has.
    The choice depends on labels and seed only, so every method learns from the same rows.

    Args:
        labels: `(n,)` integers.
        fraction: The part, between 0 and 1.
        seed: Which rows.

    Returns:
        Row numbers in ascending order.

    Raises:
        BankTypeError: The labels are no integers.
        BankValueError: The fraction is out of range, or it is less than one row a class.

    Example:
        >>> labels = torch.arange(10).repeat_interleave(60)
        >>> labels[low_shot_rows(labels, fraction=0.05)].unique(return_counts=True)[1]
        tensor([3, 3, 3, 3, 3, 3, 3, 3, 3, 3])
    """
    sizes = _class_sizes(labels)
    if not 0 < fraction < 1:
        msg = f"fraction is {fraction}; expected a part of the rows between 0 and 1, such as 0.01"
        raise BankValueError(msg)
    each = round(fraction * len(labels) / max(1, len(sizes)))
    if each < 1:
        msg = (
            f"{fraction:.3g} of {len(labels)} rows in {len(sizes)} classes is less than one row a class; expected "
            "one at least: give a larger fraction"
        )
        raise BankValueError(msg)
    return choose_by_class(labels, torch.full_like(sizes, each), seed=seed).nonzero()[:, 0]


def support_and_query(labels: Tensor, *, seed: int = 0) -> tuple[Int64[Tensor, " support"], Int64[Tensor, " query"]]:
    """Halve the rows of each class, so that classes which no encoder was trained on can be classified.

    Of a class of m rows, m // 2 support (they are the training rows of k-NN or a probe) and the others are queries.
    A class of one row has nothing to support it and is left out.

    Args:
        labels: `(n,)` integers.
        seed: Which rows.

    Returns:
        Row numbers of the support and of the queries, in ascending order.

    Raises:
        BankTypeError: The labels are no integers.

    Example:
        >>> support, query = support_and_query(torch.tensor([3, 3, 3, 5, 5, 8]))
        >>> len(support), len(query)
        (2, 3)
    """
    sizes = _class_sizes(labels)
    supports = choose_by_class(labels, sizes // 2, seed=seed)
    lone = choose_by_class(labels, torch.where(sizes == 1, 1, 0), seed=seed)
    return supports.nonzero()[:, 0], (~supports & ~lone).nonzero()[:, 0]


def choose_by_class(labels: Tensor, counts: Int64[Tensor, " classes"], *, seed: int) -> Bool[Tensor, " n"]:
    """Draw rows of each class at random.

    Args:
        labels: `(n,)` integers.
        counts: How many of each class, in the order of sorted labels; a class gives no more than it has.
        seed: Which rows.

    Returns:
        Whether each row was drawn.
    """
    # On the CPU whatever the labels are on, so that a seed means the same rows everywhere.
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).to(labels.device)
    _, classes, sizes = labels.unique(return_inverse=True, return_counts=True)
    order = shuffled[classes[shuffled].argsort(stable=True)]
    place = torch.arange(len(labels), device=labels.device) - (sizes.cumsum(0) - sizes)[classes[order]]
    return torch.zeros_like(labels, dtype=torch.bool).index_fill_(0, order[place < counts[classes[order]]], True)


def _class_sizes(labels: Tensor) -> Int64[Tensor, " classes"]:
    if labels.is_floating_point() or labels.is_complex() or labels.dim() != 1:
        msg = f"labels are {labels.dtype} of shape {tuple(labels.shape)}; expected integers (n,)"
        raise BankTypeError(msg)
    return labels.unique(return_counts=True)[1]
