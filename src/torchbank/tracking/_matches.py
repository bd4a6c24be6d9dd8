"""What a gallery answers: the most similar identities, and what it knows of one."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from torchbank.tracking._identities import NOBODY


class Matches(NamedTuple):
    """What `IdentityGallery.nearest` returns, best first.

    Attributes:
        identities: ``(batch, k)`` int64, no identity twice in a row; 0 where there are fewer than k.
        similarities: ``(batch, k)`` float32, the cosine with the most similar sample of each; -inf where there is none.
    """

    identities: np.ndarray
    similarities: np.ndarray

    @property
    def margins(self) -> np.ndarray:
        """``(batch,)``, how far the second is behind the first; inf where there is no second."""
        best, second = self.similarities[:, 0], self.similarities[:, 1]
        return np.where(np.isfinite(second), best - np.where(np.isfinite(second), second, 0), np.inf)


@dataclass(frozen=True)
class IdentityRecord:
    """What a gallery knows of one identity.

    Attributes:
        identity: Its number.
        label: Its class, -1 for none.
        samples: How many samples are kept.
        sightings: In how many frames it was seen.
        first_frame: Frame of the first sighting, -1 for none.
        last_frame: Frame of the last sighting, in its source.
        first_time: In seconds, NaN for none.
        last_time: In seconds, NaN for none.
        source: Where it was seen last, None for nowhere.
        live: Whether it is in view now.
    """

    identity: int
    label: int
    samples: int
    sightings: int
    first_frame: int
    last_frame: int
    first_time: float
    last_time: float
    source: str | None
    live: bool


def distinct(owners: np.ndarray, scores: np.ndarray, k: int) -> Matches:
    """The k best identities of each row of samples.

    Args:
        owners: ``(batch, samples)`` the identity of each sample, best first, `NOBODY` for none.
        scores: ``(batch, samples)``, descending.
        k: How many.
    """
    batch, many = owners.shape
    again = np.tril(owners[:, :, None] == owners[:, None, :], -1).any(axis=2)
    places = np.argsort(again | (owners == NOBODY), axis=1, kind="stable")[:, :k]
    first = ~np.take_along_axis(again, places, 1)
    identities = np.full((batch, k), NOBODY, dtype=np.int64)
    similarities = np.full((batch, k), -np.inf, dtype=np.float32)
    width = min(k, many)
    identities[:, :width] = np.where(first, np.take_along_axis(owners, places, 1), NOBODY)
    similarities[:, :width] = np.where(first, np.take_along_axis(scores, places, 1), -np.inf)
    similarities[identities == NOBODY] = -np.inf
    return Matches(identities, similarities)
