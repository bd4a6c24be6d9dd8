"""What of a data set's test part is a query, and what the gallery that it is looked for in."""

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

__all__ = ["QueryGallery", "RandomGallery", "RetrievalProtocol", "SelfRetrieval"]


@dataclass(frozen=True)
class SelfRetrieval:
    """Every image is a query, and all others are its gallery.

    Args:
        ks: The k of the R@K that papers report.
    """

    ks: tuple[int, ...] = (1, 10, 100)


@dataclass(frozen=True, eq=False)
class QueryGallery:
    """Some images are queries, the others their gallery.

    Args:
        is_query: `(n,)` bool, one value an image.
        ks: The k of the R@K that papers report.
    """

    is_query: Bool[Tensor, " n"]
    ks: tuple[int, ...]


@dataclass(frozen=True)
class RandomGallery:
    """One random image of each class is the gallery, the others are queries; means over several draws.

    Args:
        ks: The k of the R@K that papers report.
        draws: How many galleries are drawn.
    """

    ks: tuple[int, ...]
    draws: int = 10


RetrievalProtocol = SelfRetrieval | QueryGallery | RandomGallery
