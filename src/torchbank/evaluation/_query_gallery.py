"""How well queries find rows of their class in a gallery that they are no part of."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from torchbank.errors import BankTypeError, BankValueError
from torchbank.evaluation._doors import Features, unit_rows
from torchbank.evaluation._ranked_lists import RankedLists
from torchbank.evaluation._retrieval_scores import QueryScores, RetrievalScores, check_ks, score_lists
from torchbank.evaluation._rows_by_class import choose_by_class

__all__ = ["query_gallery", "random_gallery"]


@torch.no_grad()
def query_gallery(
    queries: Features,
    gallery: Features,
    *,
    cameras: tuple[Tensor, Tensor] | None = None,
    ks: Sequence[int] = (1, 10, 100),
) -> RetrievalScores:
    """Rank the gallery for each query by cosine, and score the lists by class.

    Among equal scores the row with the lower index ranks first. Queries with no relevant row in their list are dropped
    and counted.

    With cameras, a query does not see the rows of its own class and camera, as in re-identification
    ([Zheng et al. 2015, section 3.3](https://doi.org/10.1109/ICCV.2015.133)). Rows that are junk (label -1 in
    Market-1501) do not belong in the gallery: take them out first.

    Args:
        queries: Embeddings `(q, d)` and labels `(q,)`, such as `torchbank.encoders.Encoded`.
        gallery: Embeddings `(n, d)` and labels `(n,)`, on the same device.
        cameras: Integers `(q,)` and `(n,)`: which camera took each query and each row of the gallery.
        ks: The k of each R@K, which is the CMC at rank k.

    Raises:
        BankTypeError: Embeddings are not floating, or labels or cameras no integers.
        BankValueError: The shapes do not fit, a row is not finite or has no direction, a k is below 1, or no query has
            a relevant row.

    Example:
        >>> from types import SimpleNamespace
        >>> queries = SimpleNamespace(embeddings=torch.eye(2), labels=torch.tensor([0, 1]))
        >>> rows = torch.tensor([[1.0, 0.1], [1.0, 0.2], [0.2, 1.0]])
        >>> gallery = SimpleNamespace(embeddings=rows, labels=torch.tensor([1, 0, 1]))
        >>> scores = query_gallery(queries, gallery, ks=(1, 2))
        >>> scores.recall_at, scores.mean_inverse_negative_penalty
        ({1: 0.5, 2: 1.0}, 0.5833333333333333)
        >>> cameras = torch.tensor([0, 0]), torch.tensor([0, 1, 0])
        >>> filtered = query_gallery(queries, gallery, cameras=cameras, ks=(1, 2))
        >>> filtered.recall_at, filtered.lone_queries
        ({1: 0.0, 2: 1.0}, 1)
    """
    rows = unit_rows(gallery.embeddings, gallery.labels, whose="gallery ")
    asked = unit_rows(queries.embeddings, queries.labels, whose="query ")
    check_ks(ks)
    if asked.shape[1] != rows.shape[1] or asked.device != rows.device:
        msg = (
            f"queries are {tuple(asked.shape)} on {asked.device} and the gallery {tuple(rows.shape)} on {rows.device}; "
            "expected one dim and one device: use one encoder for both"
        )
        raise BankValueError(msg)
    asked = asked.to(torch.promote_types(asked.dtype, rows.dtype))
    rows = rows.to(asked.dtype)
    left_out = {}
    if cameras is not None:
        _check_cameras(cameras, len(asked), len(rows))
        left_out = {"label": (queries.labels, gallery.labels), "camera": cameras}
    lists = _listed(asked, rows, queries.labels, gallery.labels, left_out)
    return score_lists(lists, ks).mean()


@torch.no_grad()
def random_gallery(
    embeddings: Tensor, labels: Tensor, *, draws: int = 10, seed: int = 0, ks: Sequence[int] = (1, 5)
) -> RetrievalScores:
    """Draw one row of each class as the gallery, and look for all other rows in it; means over several draws.

    The protocol of VehicleID ([Liu et al. 2016](https://doi.org/10.1109/CVPR.2016.238)). The draws depend on the labels
    and the seed only.

    Args:
        embeddings: `(n, d)`, any floating dtype; normalised here.
        labels: `(n,)` integers, on the same device.
        draws: How many galleries.
        seed: Which.
        ks: The k of each R@K.

    Returns:
        Scores whose `queries` are those of all draws together.

    Raises:
        BankTypeError: The embeddings are not floating or the labels no integers.
        BankValueError: The shapes do not fit, a row is not finite or has no direction, a number is below 1, or no
            class has two rows.

    Example:
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> scores = random_gallery(torch.eye(2)[labels], labels, draws=3)
        >>> scores.recall_at[1], scores.queries
        (1.0, 6)
    """
    rows = unit_rows(embeddings, labels)
    check_ks(ks)
    if draws < 1:
        msg = f"draws is {draws}; expected 1 or more"
        raise BankValueError(msg)
    one_each = torch.ones_like(labels.unique())
    everyone = torch.arange(len(rows), device=rows.device)
    drawn = []
    for draw in range(draws):
        in_gallery = choose_by_class(labels, one_each, seed=seed + draw)
        lists = _listed(rows[~in_gallery], rows[in_gallery], labels[~in_gallery], labels[in_gallery], {})
        scores = score_lists(lists, ks)
        drawn.append(scores._replace(queries=everyone[~in_gallery][scores.queries]))
    values, queries = (torch.cat([getattr(scores, name) for scores in drawn]) for name in ("values", "queries"))
    # A class of one row is always gallery, never query.
    lone = everyone[~torch.isin(everyone, queries)]
    return QueryScores(tuple(ks), values, queries, lone).mean()


def _listed(
    asked: Float[Tensor, "q dim"],
    rows: Float[Tensor, "n dim"],
    query_labels: Tensor,
    row_labels: Tensor,
    left_out: dict[str, tuple[Tensor, Tensor]],
) -> RankedLists:
    lists = RankedLists(asked, rows, query_labels=query_labels, row_labels=row_labels, left_out=left_out)
    if not (lists.relevant > 0).any():
        msg = (
            f"none of the {len(asked)} queries has a row of its class to find among the {len(rows)} of the gallery; "
            "expected labels that both share"
        )
        raise BankValueError(msg)
    return lists


def _check_cameras(cameras: tuple[Tensor, Tensor], queries: int, rows: int) -> None:
    for whose, given, expected in zip(("query", "gallery"), cameras, (queries, rows), strict=True):
        if given.is_floating_point() or given.is_complex():
            msg = f"{whose} cameras are {given.dtype}; expected integers"
            raise BankTypeError(msg)
        if given.shape != (expected,):
            msg = f"{whose} cameras have shape {tuple(given.shape)}; expected ({expected},), one camera an image"
            raise BankValueError(msg)
