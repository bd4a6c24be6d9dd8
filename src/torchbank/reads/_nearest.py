"""`nearest`: the k best rows of each query, exact, without the (batch x rows) score matrix."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from torchbank.errors import BankValueError, check_choice
from torchbank.reads import _bf16_candidates
from torchbank.reads._cuda_forms import nearest_form
from torchbank.reads._doors import Impl, check_tensors, without_autocast
from torchbank.reads._group_maxima import few, nearest_blocked, nearest_of_few
from torchbank.reads._mapped import mapping_of
from torchbank.reads._reference import compute_dtype, nearest_reference
from torchbank.reads._results import Neighbors
from torchbank.reads._selection import SCHEMA, FlatSelection, Selection, brought, real_rows

Metric = Literal["dot", "euclidean"]

# With more queries a block that fits the cache holds too few rows, and to read the rows again is cheaper. Rows in a
# mapped file may lie on a disk, and are read once.
_QUERIES_A_PASS = 1024


def nearest(
    queries: Tensor,
    rows: Tensor,
    k: int,
    *,
    metric: Metric = "dot",
    selection: Selection | None = None,
    impl: Impl = "auto",
) -> Neighbors:
    """Find the k rows with the best scores for each query, best first.

    Args:
        queries: ``(batch, dim)``, any floating dtype; computed in float32, float64 queries in float64.
        rows: ``(rows, dim)`` floating, on the queries' device.
        k: How many; where fewer rows are selected the rest is marked invalid.
        metric: ``"dot"`` scores by inner product; ``"euclidean"`` by the negative squared distance, so that
            larger is nearer in both. Distances come from differences, not from inner products, so a large
            common offset does no harm.
        selection: Which rows a query sees; its bias is added to the score.
        impl: ``"reference"`` builds the scores; ``"blocked"`` streams; ``"triton"`` is two kernels on a GPU, which
            stream as ``"blocked"`` does where they cannot serve (float64 queries, rows on the host); ``"auto"`` is
            the fastest: it ranks all scores of a small bank at once, and streams a large one.

    Returns:
        `Neighbors` of ``scores``, ``slots`` (row indices) and ``valid``, each (batch, k). No gradient.

    Raises:
        BankValueError: Shapes, devices or ``k`` do not fit, or a word is unknown.
        BankTypeError: A tensor is not floating.
        BankStateError: ``impl="triton"`` without a GPU or without Triton.

    Example:
        >>> import torch
        >>> from torchbank.reads import nearest
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> nearest(torch.eye(2), rows, k=2).slots
        tensor([[0, 2],
                [1, 2]])
    """
    check_tensors(queries, rows, selection)
    check_choice("impl", impl, *get_args(Impl))
    check_choice("metric", metric, *get_args(Metric))
    if k < 1:
        msg = f"k is {k}; expected at least 1 neighbour"
        raise BankValueError(msg)
    selection = Selection() if selection is None else selection
    selection.check(queries.shape[0], rows.shape[0])
    if impl == "reference":
        rows, selection = brought(rows, selection, queries.device)
        with without_autocast(queries), torch.no_grad():
            return nearest_reference(queries, rows, k, metric, selection)
    scores, slots = torch.ops.torchbank.nearest(
        queries.detach(), rows.detach(), k, metric, impl, *selection.flat().arguments()
    )
    return Neighbors(scores, slots, slots >= 0)


torch.library.define(
    "torchbank::nearest",
    f"(Tensor queries, Tensor rows, int k, str metric, str impl, {SCHEMA}) -> (Tensor scores, Tensor slots)",
)


@torch.library.impl("torchbank::nearest", "default")
def _nearest(
    queries: Tensor,
    rows: Tensor,
    k: int,
    metric: Metric,
    impl: Impl,
    *flat: Any,
) -> tuple[Tensor, Tensor]:
    with without_autocast(queries):
        selection = FlatSelection(*flat).selection()
        queries = queries.to(compute_dtype(queries))
        if queries.device.type != "cpu" or len(queries) <= _QUERIES_A_PASS or mapping_of(rows) is not None:
            return _search(queries, rows, k, metric, impl, selection)
        passes = torch.arange(len(queries)).split(_QUERIES_A_PASS)
        parts = [_search(queries[some], rows, k, metric, impl, selection.of(some)) for some in passes]
        return torch.cat([scores for scores, _ in parts]), torch.cat([slots for _, slots in parts])


def _search(
    queries: Tensor, rows: Tensor, k: int, metric: Metric, impl: Impl, selection: Selection
) -> tuple[Tensor, Tensor]:
    # Before the rows are cut to those that are real, which a GPU would have to be waited for.
    rank_whole = impl == "auto" and few(queries, rows, k, metric)
    if not rank_whole and nearest_form(impl, queries, rows, selection) == "triton":
        from torchbank.reads import _triton_nearest

        return _triton_nearest.nearest(queries, rows, k, metric, selection)
    rows, selection = real_rows(rows, selection)
    if impl == "auto" and few(queries, rows, k, metric):
        return nearest_of_few(queries, rows, k, selection)
    if impl == "auto" and _bf16_candidates.fits(queries, rows, k, metric):
        return _bf16_candidates.nearest_by_candidates(queries, rows, k, selection)
    return nearest_blocked(queries, rows, k, metric, selection)


@torch.library.register_fake("torchbank::nearest")
def _(queries: Tensor, rows: Tensor, k: int, *_: object) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    shape = (queries.shape[0], k)
    return queries.new_empty(shape, dtype=compute_dtype(queries)), queries.new_empty(shape, dtype=torch.int64)
