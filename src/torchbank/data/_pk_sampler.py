"""Batches of P classes with K images each."""

import zlib

import numpy as np
from torch import Tensor

from torchbank.data._stateful_sampler import StatefulSampler
from torchbank.errors import BankTypeError, BankValueError

__all__ = ["PKSampler"]

# Streams of random numbers drawn from one seed: the order of the classes, and the images of a batch.
_CLASS_ORDER, _IMAGES = 0, 1


class PKSampler(StatefulSampler):
    """An endless stream of batches, each with `classes_per_batch` classes and `images_per_class` images of each.

    The classes of consecutive batches come from a random order of all classes, so none returns before the others
    had their turn (the few left over at the end of an order are skipped until the next). The images of a
    class are drawn at random.

    No image is in a batch twice, for a copy would count as the easiest of positives. A class with fewer than
    `images_per_class` images gives all it has, and the next classes of the order fill the batch up with up to
    `images_per_class` images each: every batch has exactly `classes_per_batch * images_per_class` different
    images of at least `classes_per_batch` classes.

    Several processes cut one batch: process r takes part r of what a single process with `ranks` times the classes
    would draw, so that they see its images, and no class twice. Where there are too few classes or images for that,
    process r takes batches r, r + ranks, ... of one stream.

    Batch number i is a pure function of the arguments and i: see `torchbank.data.StatefulSampler`.

    Args:
        labels: `(n,)` int64 class of each image; any integers.
        classes_per_batch: Classes in a batch (P) of this process.
        images_per_class: Images of each class (K).
        seed: Which stream; the same for all processes.
        rank: Which of `ranks` processes this is.
        ranks: How many processes share the stream.

    Raises:
        BankTypeError: `labels` are no integers.
        BankValueError: There are too few classes, or too few images for a batch without repeats, or a number
            is out of range.

    Example:
        >>> import torch
        >>> labels = torch.arange(6).repeat_interleave(5)
        >>> sampler = PKSampler(labels, classes_per_batch=2, images_per_class=3)
        >>> labels[next(iter(sampler))].unique(return_counts=True)[1]
        tensor([3, 3])
    """

    def __init__(
        self,
        labels: Tensor,
        *,
        classes_per_batch: int,
        images_per_class: int,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        _check_arguments(labels, classes_per_batch, images_per_class, seed)
        _check_ranks(rank, ranks)
        super().__init__(seed)
        self.classes_per_batch = classes_per_batch
        self.images_per_class = images_per_class
        self.rank, self.ranks = rank, ranks
        values = labels.cpu().numpy()
        order = np.argsort(values, kind="stable")
        starts = np.flatnonzero(np.diff(values[order])) + 1
        self._rows_of_class = [rows for rows in np.split(order, starts) if len(rows)]
        self._labels_checksum = zlib.crc32(values.astype(np.int64).tobytes())
        self._check_supply()
        self.cuts_one_batch = self._suffices(ranks)

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return self.classes_per_batch * self.images_per_class

    @property
    def batches_per_pass(self) -> int:
        """Batches of this process until every class had its turn."""
        if self.cuts_one_batch:
            return len(self._rows_of_class) // (self.classes_per_batch * self.ranks)
        return -(-(len(self._rows_of_class) // self.classes_per_batch) // self.ranks)

    def batch(self, index: int) -> list[int]:
        """Compute batch number `index` of this process: row numbers, class after class."""
        if self.cuts_one_batch:
            first = self.rank * self.batch_size
            return self._draw(index, self.classes_per_batch * self.ranks)[first : first + self.batch_size]
        return self._draw(index * self.ranks + self.rank, self.classes_per_batch)

    def _draw(self, index: int, classes: int) -> list[int]:
        """Batch number `index` of the stream whose batches have so many classes."""
        turn, position = divmod(index, len(self._rows_of_class) // classes)
        order = np.random.default_rng([self.seed, _CLASS_ORDER, turn]).permutation(len(self._rows_of_class))
        random = np.random.default_rng([self.seed, _IMAGES, index])
        size = classes * self.images_per_class
        rows: list[int] = []
        for label in np.roll(order, -position * classes):
            places = min(self.images_per_class, size - len(rows))
            if not places:
                break
            rows += random.permutation(self._rows_of_class[label])[:places].tolist()
        return rows

    def _identity(self) -> dict[str, int]:
        return {
            "seed": self.seed,
            "classes_per_batch": self.classes_per_batch,
            "images_per_class": self.images_per_class,
            "labels_checksum": self._labels_checksum,
            "rank": self.rank,
            "ranks": self.ranks,
        }

    def _check_supply(self) -> None:
        classes = len(self._rows_of_class)
        if classes < self.classes_per_batch:
            msg = (
                f"classes_per_batch is {self.classes_per_batch}, but the labels hold {classes} classes: take fewer "
                "classes a batch or more data"
            )
            raise BankValueError(msg)
        if not self._suffices(1):
            supply = self._supply()
            msg = (
                f"a batch of {self.classes_per_batch} classes with {self.images_per_class} images needs "
                f"{self.batch_size} different images, but with at most {self.images_per_class} a class there are "
                f"{supply}: take fewer images a class or fewer classes a batch"
            )
            raise BankValueError(msg)

    def _supply(self) -> int:
        """Different images that a batch could hold."""
        return sum(min(len(rows), self.images_per_class) for rows in self._rows_of_class)

    def _suffices(self, parts: int) -> bool:
        """Whether a batch of so many parts can have its classes, and no image twice."""
        enough = len(self._rows_of_class) >= parts * self.classes_per_batch
        return enough and self._supply() >= parts * self.batch_size


def _check_ranks(rank: int, ranks: int) -> None:
    if not 0 <= rank < ranks:
        msg = f"rank is {rank} and ranks {ranks}; expected 1 process or more and a rank from 0 to ranks - 1"
        raise BankValueError(msg)


def _check_arguments(labels: Tensor, classes_per_batch: int, images_per_class: int, seed: int) -> None:
    if labels.is_floating_point() or labels.is_complex():
        msg = f"labels are {labels.dtype}; expected integers, one class number an image"
        raise BankTypeError(msg)
    if labels.dim() != 1:
        msg = f"labels have shape {tuple(labels.shape)}; expected (n,), one class number an image"
        raise BankValueError(msg)
    if classes_per_batch < 1 or images_per_class < 1 or seed < 0:
        msg = (
            f"classes_per_batch is {classes_per_batch}, images_per_class {images_per_class} and seed {seed}; expected "
            "1 or more, 1 or more and 0 or more"
        )
        raise BankValueError(msg)
