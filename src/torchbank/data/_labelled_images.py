"""What a data set is here: labelled examples, mostly images, that can be read a batch at a time."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from torchbank.data._protocols import RetrievalProtocol, SelfRetrieval
from torchbank.errors import BankTypeError, BankValueError

__all__ = ["ArrayImages", "Batch", "LabelledExamples", "LabelledImages", "Split", "ViewBatch"]


class Batch(NamedTuple):
    """A batch of labelled images.

    Attributes:
        images: `(b, c, h, w)` float32 in [0, 1].
        labels: `(b,)` int64, the class of each image, an index into the data set's `class_names`.
        ids: `(b,)` int64, the row of each image in its data set: the instance id that keyed banks and the
            removal of self-pairs use.
    """

    images: Float[Tensor, "batch channels height width"]
    labels: Int64[Tensor, " batch"]
    ids: Int64[Tensor, " batch"]


class ViewBatch(NamedTuple):
    """Several views of the same instances.

    Attributes:
        views: Tensors `(b, ...)`, one a view: images `(b, c, h, w)`, global views before smaller local ones, or
            the sides of text pairs, tokens `(b, length)`.
        labels: `(b,)` int64, the class of each instance.
        ids: `(b,)` int64, the row of each instance in its data set.
    """

    views: tuple[Tensor, ...]
    labels: Int64[Tensor, " batch"]
    ids: Int64[Tensor, " batch"]


class LabelledExamples(Dataset[Any], ABC):
    """Examples with one class label each, read a batch at a time (`__getitems__`).

    Labels index `class_names`, which names every class of the whole data set; the train and test parts of a
    `Split` share it.

    Attributes:
        name: What the data set is called in run folders and reports.
        labels: `(n,)` int64.
        class_names: The name of each label.
    """

    name: str
    labels: Int64[Tensor, " n"]
    class_names: tuple[str, ...]

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """The sha256 (hexadecimal) of what the data set holds: equal data, equal fingerprint."""

    def __len__(self) -> int:
        return self.labels.shape[0]

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> Batch | ViewBatch:
        """Read several examples, in the order of `indices`."""


class LabelledImages(LabelledExamples):
    """Images with one class label each.

    `dataset[i]` is `(image, label, id)`. A `DataLoader` asks for whole batches instead (`__getitems__`), so an
    in-memory data set serves a batch with one indexing operation; `torchbank.data.loader` builds such a loader.

    Attributes:
        image_shape: `(c, h, w)` of every image.
        protocol: How images of these classes are retrieved, where they test.
        super_classes: `(n,)` int64, indices into `super_class_names`; None where classes are of one kind.
        super_class_names: The kinds of the classes, such as "bicycle".
    """

    image_shape: tuple[int, int, int]
    protocol: RetrievalProtocol = SelfRetrieval()
    super_classes: Int64[Tensor, " n"] | None = None
    super_class_names: tuple[str, ...] = ()

    @abstractmethod
    def images(self, ids: Int64[Tensor, " batch"]) -> Float[Tensor, "batch channels height width"]:
        """Read several images, in the order of `ids`, as float32 in [0, 1]."""

    def image(self, index: int) -> Float[Tensor, "channels height width"]:
        """Read one image as float32 in [0, 1]."""
        return self.images(torch.tensor([index]))[0]

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        if not -len(self) <= index < len(self):
            msg = f"image {index} does not exist: {self.name} holds {len(self)} images"
            raise IndexError(msg)
        index = index % len(self)
        return self.image(index), int(self.labels[index]), index

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        ids = torch.as_tensor(indices, dtype=torch.int64)
        return Batch(self.images(ids), self.labels[ids], ids)


class Split(NamedTuple):
    """Two parts of a data set: train on one, test on the other.

    Where training shows every class of the test (`shares_classes`), the test is recognising them; otherwise it is
    retrieval, on classes never seen.
    """

    train: LabelledExamples
    test: LabelledExamples

    @property
    def shares_classes(self) -> bool:
        """Whether every class of the test is trained on: both name their classes alike, and no test label is new."""
        named_alike = self.train.class_names == self.test.class_names
        return named_alike and bool(torch.isin(self.test.labels.unique(), self.train.labels).all())


class ArrayImages(LabelledImages):
    """Images held in memory as unsigned bytes; a batch is one indexing operation and one division.

    Args:
        images: `(n, c, h, w)` uint8.
        labels: `(n,)` int64, indices into `class_names`.
        class_names: The name of each label.
        name: What the data set is called.
        white: The byte that becomes 1.0.

    Raises:
        BankTypeError: `images` is not uint8 or `labels` is not int64.
        BankValueError: The shapes do not fit together, or a label names no class.

    Example:
        >>> images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
        >>> dataset = ArrayImages(images, torch.tensor([0, 0, 1]), class_names=("a", "b"), name="grey")
        >>> image, label, id = dataset[1]
        >>> round(image.item(), 3), label, id
        (0.2, 0, 1)
    """

    def __init__(
        self, images: Tensor, labels: Tensor, *, class_names: Sequence[str], name: str, white: int = 255
    ) -> None:
        _check_arrays(images, labels, len(class_names))
        self._pixels: UInt8[Tensor, "n channels height width"] = images
        self._white = white
        self._fingerprint: str | None = None
        self.labels = labels
        self.class_names = tuple(class_names)
        self.name = name
        channels, height, width = images.shape[1:]
        self.image_shape = (channels, height, width)

    def images(self, ids: Int64[Tensor, " batch"]) -> Float[Tensor, "batch channels height width"]:
        """Read several images, in the order of `ids`, as float32 in [0, 1]."""
        return self._pixels[ids].to(torch.float32).div_(self._white)

    @property
    def fingerprint(self) -> str:
        """The sha256 of the class names, labels and pixels."""
        if self._fingerprint is None:
            digest = hashlib.sha256(repr((self.class_names, self._pixels.shape, self._white)).encode())
            digest.update(self.labels.numpy().tobytes())
            digest.update(self._pixels.numpy().tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


def _check_arrays(images: Tensor, labels: Tensor, classes: int) -> None:
    if images.dtype != torch.uint8 or labels.dtype != torch.int64:
        msg = (
            f"images are {images.dtype} and labels are {labels.dtype}; expected uint8 images and int64 labels: "
            "convert them first"
        )
        raise BankTypeError(msg)
    if images.dim() != 4 or labels.shape != images.shape[:1]:
        msg = (
            f"images have shape {tuple(images.shape)} and labels {tuple(labels.shape)}; expected images "
            "(n, channels, height, width) and one label an image"
        )
        raise BankValueError(msg)
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        msg = (
            f"labels run from {int(labels.min())} to {int(labels.max())}, but there are {classes} class names: "
            "give one name for each label from 0 on"
        )
        raise BankValueError(msg)
