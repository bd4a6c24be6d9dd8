"""Pairs of texts that mean the same: a data set whose two views are given, not drawn."""

import hashlib
from collections.abc import Sequence

import torch

from torchbank.data._hashed_text import HashedTexts
from torchbank.data._labelled_images import LabelledExamples, ViewBatch
from torchbank.errors import BankValueError

__all__ = ["TextPairs"]


class TextPairs(LabelledExamples):
    """Two texts an example, read as a `ViewBatch` with one view a side; each pair is a class of its own.

    Args:
        first: The texts of one side.
        second: As many of the other.
        labels: `(n,)` int64, which pair of the whole data set each one is.
        class_names: The name of each pair of the whole data set.
        name: What the data set is called.

    Raises:
        BankValueError: The sides have different lengths.

    Example:
        >>> pairs = TextPairs(["cat"], ["feline mammal"], torch.tensor([0]), class_names=["cat"], name="animals")
        >>> [view.shape for view in pairs.__getitems__([0]).views]
        [torch.Size([1, 6]), torch.Size([1, 32])]
    """

    def __init__(
        self,
        first: Sequence[str],
        second: Sequence[str],
        labels: torch.Tensor,
        *,
        class_names: Sequence[str],
        name: str,
    ) -> None:
        if not len(first) == len(second) == len(labels):
            msg = f"there are {len(first)} and {len(second)} texts and {len(labels)} labels; expected one each a pair"
            raise BankValueError(msg)
        self.texts = tuple(zip(first, second, strict=True))
        self.labels = labels
        self.class_names = tuple(class_names)
        self.name = name
        self._sides = HashedTexts(first), HashedTexts(second)

    def __getitems__(self, indices: Sequence[int]) -> ViewBatch:
        """Read several pairs, in the order of `indices`; tokens as `HashedTexts.padded` gives them."""
        ids = torch.as_tensor(indices, dtype=torch.int64)
        return ViewBatch(tuple(side.padded(ids) for side in self._sides), self.labels[ids], ids)

    @property
    def fingerprint(self) -> str:
        """The sha256 of the texts and labels."""
        digest = hashlib.sha256(repr(self.texts).encode())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()
