"""Batches of P classes with K images each."""

import zlib
from collections.abc import Iterator, Mapping

import numpy as np
from torch import Tensor
from torch.utils.data import Sampler

from torchbank.errors import BankStateError, BankTypeError, BankValueError

__all__ = ["PKSampler"]

# Streams of random numbers drawn from one seed: the order of the classes, and the images of a batch.
_CLASS_ORDER, _IMAGES = 0, 1


class PKSampler(Sampler[list[int]]):
    """An endless stream of batches, each with `classes_per_batch` classes and `images_per_class` images of each.

    The classes of consecutive batches come from a random order of all classes, so none returns before the others
    had their turn (the few left over at the end of an order are skipped until the next). The images of a
    class are drawn at random.

    No image is in a batch twice, for a copy would count as the easiest of positives. A class with fewer than
    `images_per_class` images gives all it has, and the next classes of the order fill the batch up with up to
    `images_per_class` images each: every batch has exactly `classes_per_batch * images_per_class` different
    images of at least `classes_per_batch` classes.

    Batch number i is a pure function of the arguments and i. Iteration starts at `next_batch` and moves it with
    each batch it yields. A `DataLoader` with workers (or accelerate) asks for batches before they are used:
    give the number that was used to `state_dict` there.

    Args:
        labels: `(n,)` int64 class of each image; any integers.
        classes_per_batch: Classes in a batch (P).
        images_per_class: Images of each class (K).
        seed: Which stream.

    Attributes:
        next_batch: The number of the batch that iteration yields next.

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

    def __init__(self, labels: Tensor, *, classes_per_batch: int, images_per_class: int, seed: int = 0) -> None:
        _check_arguments(labels, classes_per_batch, images_per_class, seed)
        self.classes_per_batch = classes_per_batch
        self.images_per_class = images_per_class
        self.seed = seed
        self.next_batch = 0
        values = labels.cpu().numpy()
        order = np.argsort(values, kind="stable")
        starts = np.flatnonzero(np.diff(values[order])) + 1
        self._rows_of_class = [rows for rows in np.split(order, starts) if len(rows)]
        self._labels_checksum = zlib.crc32(values.astype(np.int64).tobytes())
        self._check_supply()

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return self.classes_per_batch * self.images_per_class

    @property
    def batches_per_pass(self) -> int:
        """Batches until every class had its turn."""
        return len(self._rows_of_class) // self.classes_per_batch

    def batch(self, index: int) -> list[int]:
        """Compute batch number `index` of the stream: row numbers, class after class."""
        turn, position = divmod(index, self.batches_per_pass)
        order = np.random.default_rng([self.seed, _CLASS_ORDER, turn]).permutation(len(self._rows_of_class))
        random = np.random.default_rng([self.seed, _IMAGES, index])
        rows: list[int] = []
        for label in np.roll(order, -position * self.classes_per_batch):
            places = min(self.images_per_class, self.batch_size - len(rows))
            if not places:
                break
            rows += random.permutation(self._rows_of_class[label])[:places].tolist()
        return rows

    def __iter__(self) -> Iterator[list[int]]:
        index = self.next_batch
        while True:
            rows = self.batch(index)
            index += 1
            self.next_batch = index
            yield rows

    def state_dict(self, *, next_batch: int | None = None) -> dict[str, int]:
        """Return the place in the stream, as plain integers.

        Args:
            next_batch: Number of batches that were really used, where a loader reads ahead; by default the
                number that iteration has yielded.
        """
        return self._identity() | {"next_batch": self.next_batch if next_batch is None else next_batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue where `state_dict` was taken: the next iteration yields the very batches that would have come.

        Raises:
            BankStateError: The state comes from other labels or another setting, whose stream is another one.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                msg = (
                    f"the sampler state has {name} {state.get(name)}, but this sampler has {value}: resume with the "
                    "data and settings that the state was saved with"
                )
                raise BankStateError(msg)
        if "next_batch" not in state:
            msg = "the sampler state has no next_batch; expected what PKSampler.state_dict gave"
            raise BankStateError(msg)
        self.next_batch = state["next_batch"]

    def _identity(self) -> dict[str, int]:
        return {
            "seed": self.seed,
            "classes_per_batch": self.classes_per_batch,
            "images_per_class": self.images_per_class,
            "labels_checksum": self._labels_checksum,
        }

    def _check_supply(self) -> None:
        classes = len(self._rows_of_class)
        if classes < self.classes_per_batch:
            msg = (
                f"classes_per_batch is {self.classes_per_batch}, but the labels hold {classes} classes: take fewer "
                "classes a batch or more data"
            )
            raise BankValueError(msg)
        supply = sum(min(len(rows), self.images_per_class) for rows in self._rows_of_class)
        if supply < self.batch_size:
            msg = (
                f"a batch of {self.classes_per_batch} classes with {self.images_per_class} images needs "
                f"{self.batch_size} different images, but with at most {self.images_per_class} a class there are "
                f"{supply}: take fewer images a class or fewer classes a batch"
            )
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
