"""Batches of a data set, as a `DataLoader`."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader

from torchbank.data._labelled_images import Batch, LabelledExamples, ViewBatch
from torchbank.errors import BankValueError

__all__ = ["loader"]


def loader(
    dataset: LabelledExamples,
    *,
    batch_size: int | None = None,
    batch_sampler: Iterable[list[int]] | None = None,
    num_workers: int = 0,
) -> DataLoader[Any]:
    """Build a `DataLoader` that yields a `Batch` (images) or `ViewBatch` (text pairs) at a time.

    It draws no random numbers from PyTorch's global generator, so making or iterating a loader never changes
    what a training run does next.

    Args:
        dataset: The examples.
        batch_size: Read every example once, in order, so many at a time; the last batch may be smaller.
        batch_sampler: Or: read the batches of indices it yields, such as those of a `PKSampler`.
        num_workers: Processes that read ahead; 0 reads in this one, best for images held in memory.

    Raises:
        BankValueError: Not exactly one of `batch_size` and `batch_sampler` is given, or a number is too small.

    Example:
        >>> from torchbank import data
        >>> batch = next(iter(loader(data.load("kanji").test, batch_size=4)))
        >>> batch.images.shape, batch.ids
        (torch.Size([4, 1, 32, 32]), tensor([0, 1, 2, 3]))
    """
    if (batch_size is None) == (batch_sampler is None):
        msg = "expected either batch_size or batch_sampler: give one of the two"
        raise BankValueError(msg)
    if (batch_size is not None and batch_size < 1) or num_workers < 0:
        msg = f"batch_size is {batch_size} and num_workers {num_workers}; expected 1 or more and 0 or more"
        raise BankValueError(msg)
    # DataLoader's own types know no `__getitems__`.
    return DataLoader(
        dataset,
        batch_size=1 if batch_size is None else batch_size,
        batch_sampler=batch_sampler,  # pyrefly: ignore[bad-argument-type]
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=_whole_batch,  # pyrefly: ignore[bad-argument-type]
        # An iterator seeds its workers from this generator; without it, from the global one.
        generator=torch.Generator().manual_seed(0),
    )


def _whole_batch(batch: Batch | ViewBatch) -> Batch | ViewBatch:
    # `LabelledExamples.__getitems__` has already built the batch.
    return batch
