"""`pair_sum`: a function of every query-row pair, summed over the rows, in one pass over the bank.

The forward pass sums f and f' M together, so the gradient by the queries is at hand without the rows.
"""

from typing import Any, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from torchbank.errors import BankValueError, check_choice
from torchbank.reads._cuda_forms import pair_sum_form
from torchbank.reads._doors import Impl, check_tensors, without_autocast
from torchbank.reads._first_order import sum_with_gradient
from torchbank.reads._pair_function import PairFunction, by_name
from torchbank.reads._reference import compute_dtype, pair_sum_reference
from torchbank.reads._results import PairSum
from torchbank.reads._selection import SCHEMA, FlatSelection, Match, Selection, brought, real_rows
from torchbank.reads._stream import Block, stream

# Up to this share of active pairs, to list them is cheaper than to take f of all and to multiply with all rows.
_FEW = 1 / 16


def pair_sum(
    queries: Tensor,
    rows: Tensor,
    f: PairFunction,
    *,
    labels: Match | None = None,
    selection: Selection | None = None,
    impl: Impl = "auto",
) -> PairSum:
    """Sum a function of the score over the selected rows of each query.

    ``value_i = sum_j exp(beta_j) f(q_i . M_j, same_ij)``; rows are constants, the gradient of ``value``
    reaches ``queries``.

    Args:
        queries: ``(batch, dim)``, any floating dtype; computed in float32, float64 queries in float64.
        rows: ``(rows, dim)`` floating, on the queries' device.
        f: The function with its derivative.
        labels: Query labels (batch,) and row labels (rows,), which give ``same``; None makes it False.
        selection: Which rows a query sees; None is all of them.
        impl: ``"reference"`` builds the scores and is differentiable in the rows too and twice;
            ``"blocked"`` streams; ``"triton"`` is one kernel on a GPU, which streams as ``"blocked"`` does where it
            cannot serve (a function without a closed form, float64 queries, rows wider than 256 or on the host);
            ``"auto"`` is the fastest.

    Returns:
        `PairSum` of ``value`` (batch,) and ``count`` (batch,) of the active pairs.

    Raises:
        BankValueError: Shapes or devices do not fit, or a word is unknown.
        BankTypeError: A tensor is not floating.
        BankStateError: On differentiating twice, unless ``impl="reference"``; ``impl="triton"`` without a GPU or
            without Triton.

    Example:
        >>> import torch
        >>> from torchbank.reads import SCORE, pair_sum
        >>> queries, rows = torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> pair_sum(queries, rows, SCORE).value
        tensor([1.6000, 1.8000])
    """
    check_tensors(queries, rows, selection)
    check_choice("impl", impl, *get_args(Impl))
    selection = Selection() if selection is None else selection
    selection.check(queries.shape[0], rows.shape[0])
    if labels is not None and (labels[0].shape != queries.shape[:1] or labels[1].shape != rows.shape[:1]):
        msg = (
            f"labels have shapes {tuple(labels[0].shape)} and {tuple(labels[1].shape)}; expected one a query, "
            f"({queries.shape[0]},), and one a row, ({rows.shape[0]},)"
        )
        raise BankValueError(msg)
    f.check(queries)
    if impl == "reference":
        rows, selection = brought(rows, selection, queries.device)
        with without_autocast(queries):
            labels = None if labels is None else (labels[0], labels[1].to(queries.device))
            value, count = pair_sum_reference(queries, rows, f, labels, selection)
    else:
        query_labels, row_labels = (None, None) if labels is None else labels
        value, count, _ = torch.ops.torchbank.pair_sum(
            queries, rows, f.name, impl, f.numbers, f.per_query, query_labels, row_labels, *selection.flat().arguments()
        )
    return PairSum(value, count.detach())


torch.library.define(
    "torchbank::pair_sum",
    "(Tensor queries, Tensor rows, str name, str impl, float[] numbers, Tensor[] per_query, "
    "Tensor? query_labels, Tensor? row_labels, "
    f"{SCHEMA}) -> (Tensor value, Tensor count, Tensor gradient)",
)


@torch.library.impl("torchbank::pair_sum", "default")
def _pair_sum(
    queries: Tensor,
    rows: Tensor,
    name: str,
    impl: str,
    numbers: list[float],
    per_query: list[Tensor],
    query_labels: Tensor | None,
    row_labels: Tensor | None,
    *flat: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    labels = None if query_labels is None or row_labels is None else (query_labels, row_labels)
    with without_autocast(queries):
        selection = FlatSelection(*flat).selection()
        queries = queries.to(compute_dtype(queries))
        f = by_name(name).with_parameters(*numbers, *per_query)
        if pair_sum_form(impl, queries, rows, selection, f) == "triton":
            from torchbank.reads import _triton_pair_sum

            return _triton_pair_sum.pair_sum(queries, rows, f, selection)
        rows, selection = real_rows(rows, selection)
        return pair_sum_blocked(queries, rows, f, labels, selection)


def pair_sum_blocked(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    f: PairFunction,
    labels: Match | None,
    selection: Selection,
) -> tuple[Tensor, Tensor, Tensor]:
    """Value (batch,), count (batch,) and the gradient of the value by the queries (batch, dim)."""
    value = queries.new_zeros(queries.shape[0])
    count = torch.zeros_like(value)
    gradient = torch.zeros_like(queries)
    threshold = _threshold(f, queries)
    for block in stream(queries, rows, selection, contiguous="row" if queries.device.type == "cpu" else "query"):
        pairs = None if threshold is None else _few_active(block, threshold)
        sums = _sum_all(f, block, labels) if pairs is None else _sum_pairs(f, block, labels, *pairs)
        for total, part in zip((value, count, gradient), sums, strict=True):
            total += part
    return value, count, gradient


def _threshold(f: PairFunction, queries: Tensor) -> Tensor | None:
    """The scores, 0-d or (batch, 1), up to which f is 0; None where asking how many are higher would wait for a GPU."""
    if f.zero_up_to is None or queries.device.type != "cpu":
        return None
    return torch.as_tensor(f.zero_up_to(*f.arguments()), dtype=queries.dtype)


def _few_active(block: Block, threshold: Tensor) -> tuple[Tensor, Tensor] | None:
    """The queries, ascending, and columns (pairs,) where f is not 0; None where to sum all of them is as fast."""
    active = block.scores > threshold
    if int(active.count_nonzero()) > _FEW * active.numel():
        return None
    batch, width = active.shape
    # The table lies in memory by columns, and to sort what is found by queries is cheaper than to search it by queries.
    found = active.T.reshape(-1).nonzero().squeeze(1)
    queries, columns = found % batch, found // batch
    found = (queries * width).add_(columns)[block.keeps(queries, columns)].sort().values
    return found // width, found % width


def _sum_pairs(
    f: PairFunction,
    block: Block,
    labels: Match | None,
    queries: Int64[Tensor, " pairs"],
    columns: Int64[Tensor, " pairs"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, count and gradient of some pairs of a block, each as if it were a query with one row."""
    scores = block.scores.T.reshape(-1).index_select(0, columns * len(block.scores) + queries)[:, None]
    same = torch.zeros_like(scores, dtype=torch.bool)
    if labels is not None:
        same = (labels[0][queries] == block.values_of(labels[1])[columns])[:, None]
    parameters = [each[queries] if isinstance(each, Tensor) else each for each in f.arguments()]
    terms, slopes = f.value(scores, same, *parameters)[:, 0], f.derivative(scores, same, *parameters)[:, 0]
    active = (slopes != 0).to(terms.dtype)
    if block.bias is not None:
        weights = block.bias.exp()[columns]
        terms, slopes, active = terms * weights, slopes * weights, active * weights
    batch = len(block.scores)
    value, count = (terms.new_zeros(batch).index_add_(0, queries, each) for each in (terms, active))
    ends = queries.bincount(minlength=batch).cumsum(0)
    starts = torch.cat((ends.new_zeros(1), ends[:-1]))
    gradient = nn.functional.embedding_bag(columns, block.rows, starts, mode="sum", per_sample_weights=slopes)
    return value, count, gradient


def _sum_all(f: PairFunction, block: Block, labels: Match | None) -> tuple[Tensor, Tensor, Tensor]:
    """Value, count and gradient of all pairs of a block."""
    same = _same(block, labels)
    terms = f.value(block.scores, same, *f.arguments())
    slopes = f.derivative(block.scores, same, *f.arguments())
    if block.selection.exclude or block.selection.include or block.bias is not None:
        terms, slopes = _own(terms, block.scores), _own(slopes, block.scores)
        # A row left out may have any value, infinite ones too, so it is overwritten and not multiplied by 0.
        block.leave_out(0.0, terms, slopes)
    active = slopes != 0
    if block.bias is not None:
        weights, gone = block.bias.exp(), block.bias == -torch.inf
        terms.masked_fill_(gone, 0.0).mul_(weights)
        slopes.masked_fill_(gone, 0.0).mul_(weights)
        active = active * weights
    return terms.sum(dim=1), active.sum(dim=1), slopes @ block.rows


def _own(values: Tensor, scores: Tensor) -> Tensor:
    """Values that may be written in place: a pair function may return the scores themselves, or an expanded number."""
    dense = values.is_contiguous() or values.T.is_contiguous()
    shared = values.data_ptr() == scores.data_ptr() or not dense
    return torch.empty_like(scores).copy_(values) if shared else values


def _same(block: Block, labels: Match | None) -> Tensor:
    if labels is None:
        return torch.zeros((), dtype=torch.bool, device=block.scores.device).expand_as(block.scores)
    return labels[0][:, None] == block.values_of(labels[1])[None, :]


sum_with_gradient("torchbank::pair_sum")

SCORE = PairFunction(
    "score",
    value=lambda scores, same: scores,  # noqa: ARG005
    derivative=lambda scores, same: torch.ones_like(scores),  # noqa: ARG005
    closed_form="score",
)
"""f(s) = s: with ``include={"label": ...}``, ``value / count`` is the mean similarity to the positives."""
