"""Embeddings made fit for telling identities apart: whitened by the scatter within tracks."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from torchbank.errors import BankStateError, BankValueError
from torchbank.tracking._doors import as_integers, as_matrix, check_fraction, unit, usable


class Whitening:
    """A linear map under which embeddings of one track vary by the same little in every direction.

    ``x -> normalize((x - mean) @ matrix)`` with ``matrix @ matrix.T`` the inverse of the scatter within tracks. It is
    the within-class covariance normalisation of [Hatch et al. 2006](https://www.isca-archive.org/interspeech_2006/)
    with tracks in the place of classes, and the first half of linear discriminant analysis. Directions in which one
    object changes from frame to frame (pose, light, the cut of the box) count less, and the mean that all embeddings
    share is taken away. An embedder that was never trained to tell individuals apart gains most.

    The scatter is regularised towards its own average, ``(1 - shrinkage) * S + shrinkage * trace(S) / dim * I``.

    Args:
        mean: ``(dim,)``.
        matrix: ``(dim, out)``.

    Attributes:
        dim: Length of an embedding before.
        out: Length after.

    Example:
        >>> import numpy as np
        >>> from torchbank.tracking import Whitening
        >>> rng = np.random.default_rng(0)
        >>> tracks = np.repeat(np.arange(20), 30)
        >>> who, frame = rng.normal(size=(20, 8))[tracks], rng.normal(size=(600, 8))
        >>> frame[:, :4] *= 10  # half of the axes change with every frame
        >>> whitening = Whitening.fit(tracks, who + frame)
        >>> before, after = (who + frame)[[0, 29, 30]], whitening((who + frame)[[0, 29, 30]])
        >>> after.shape
        (3, 8)
    """

    def __init__(self, mean: np.ndarray, matrix: np.ndarray) -> None:
        self.mean = np.asarray(mean, dtype=np.float32)
        self.matrix = np.asarray(matrix, dtype=np.float32)
        if self.matrix.ndim != 2 or self.mean.shape != self.matrix.shape[:1]:
            msg = f"mean has shape {self.mean.shape} and matrix {self.matrix.shape}; expected (dim,) and (dim, out)"
            raise BankValueError(msg)
        self.dim, self.out = self.matrix.shape

    @classmethod
    def fit(
        cls, track_ids: np.ndarray, embeddings: np.ndarray | Tensor, *, shrinkage: float = 0.1, out: int | None = None
    ) -> "Whitening":
        """Learn the map from the tracks of a tracker, without labels.

        Args:
            track_ids: ``(rows,)`` which track each embedding is from. Ids of different videos must differ.
            embeddings: ``(rows, dim)``; rows that are not finite or zero are left out, all others normalised.
            shrinkage: Share of the average scatter in each direction, in [0, 1]; 1 takes away the mean only.
            out: Keep only so many directions, those in which tracks differ most from each other; None keeps all.

        Raises:
            BankValueError: The shapes do not fit, or ``shrinkage`` or ``out`` is out of range.
            BankStateError: There are fewer than two tracks of two embeddings each.
        """
        check_fraction("shrinkage", shrinkage)
        rows = as_matrix(embeddings)
        tracks = as_integers("track_ids", track_ids, len(rows))
        good = usable(rows)
        rows, tracks = unit(rows[good]).astype(np.float64), tracks[good]
        _, owner, counts = np.unique(tracks, return_inverse=True, return_counts=True)
        if (counts > 1).sum() < 2:
            msg = (
                f"{(counts > 1).sum()} tracks have two or more embeddings; whitening is learned from how embeddings of "
                "one track differ, so give at least 2 such tracks, better 20"
            )
            raise BankStateError(msg)
        means = np.zeros((len(counts), rows.shape[1]))
        np.add.at(means, owner, rows)
        means /= counts[:, None]
        within = rows - means[owner]
        # A long track counts as often as it has frames; its mean is known that much better.
        scatter = within.T @ within / max(1, len(rows) - len(counts))
        centre = means.mean(axis=0)
        return cls(centre, _directions(scatter, means - centre, shrinkage, out))

    def __call__(self, embeddings: np.ndarray | Tensor) -> np.ndarray:
        """Whitened embeddings of length 1, ``(rows, out)`` float32; a row that is no evidence becomes NaN.

        Args:
            embeddings: ``(dim,)`` or ``(rows, dim)``; normalised here.

        Raises:
            BankValueError: They are of another length.
        """
        rows = as_matrix(embeddings, self.dim)
        good = usable(rows)
        moved = np.full((len(rows), self.out), np.nan, dtype=np.float32)
        moved[good] = self.apply(unit(rows[good]))
        return moved

    def apply(self, means: np.ndarray) -> np.ndarray:
        """The map for means of unit embeddings, which are not normalised before it but after it."""
        return unit((means - self.mean) @ self.matrix)

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps."""
        return {"mean": torch.from_numpy(self.mean), "matrix": torch.from_numpy(self.matrix)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Whitening":
        """From what a file kept."""
        return cls(tensors["mean"].numpy().copy(), tensors["matrix"].numpy().copy())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Whitening):
            return NotImplemented
        return np.array_equal(self.mean, other.mean) and np.array_equal(self.matrix, other.matrix)

    __hash__ = None  # pyrefly: ignore

    def __repr__(self) -> str:
        return f"Whitening({self.dim} -> {self.out})"


def _directions(scatter: np.ndarray, between: np.ndarray, shrinkage: float, out: int | None) -> np.ndarray:
    """The inverse square root of the regularised scatter, turned so that the first axes separate tracks most."""
    dim = len(scatter)
    if out is not None and not 1 <= out <= dim:
        msg = f"out is {out}; expected 1 to {dim}, the length of an embedding"
        raise BankValueError(msg)
    average = np.trace(scatter) / dim
    # Tracks whose embeddings do not vary at all leave the directions as they are.
    if average <= np.finfo(np.float32).tiny:
        scatter, average = np.eye(dim), 1.0
    values, vectors = np.linalg.eigh((1 - shrinkage) * scatter + shrinkage * average * np.eye(dim))
    floor = values[-1] * dim * np.finfo(np.float64).eps
    matrix = vectors / np.sqrt(np.maximum(values, floor))
    if out is None:
        return matrix
    _, _, axes = np.linalg.svd(between @ matrix, full_matrices=True)
    return matrix @ axes[:out].T
