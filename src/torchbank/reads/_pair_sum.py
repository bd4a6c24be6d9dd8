"""`pair_sum`: a function of every query-row pair, summed over the rows, in one pass over the bank.

The forward pass sums f and f' M together, so the gradient by the queries is at hand without the rows.
"""

from typing import Any, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchbank.errors import BankValueError, check_choice
from torchbank.reads._cuda_forms import pair_sum_form
from torchbank.reads._doors import Impl, check_tensors, without_autocast
from torchbank.reads._first_order import sum_with_gradient
from torchbank.reads._pair_function import PairFunction, by_name
from torchbank.reads._reference import compute_dtype, pair_sum_reference
from torchbank.reads._results import PairSum
from torchbank.reads._selection import SCHEMA, FlatSelection, Match, Selection, brought, real_rows
from torchbank.reads._stream import Block, stream

# Below this share of active rows, gathering them is cheaper than multiplying all.
_FEW = 0.5


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
    parameters = f.arguments()
    threshold = _threshold(f, queries)
    selects = bool(selection.exclude or selection.include or selection.bias is not None)
    for block in stream(queries, rows, selection, contiguous="query" if threshold is None else "row"):
        if threshold is not None:
            above = (block.scores.amax(dim=0) > threshold).nonzero().squeeze(1)
            if not len(above):
                continue
            block = block.only(above) if len(above) < _FEW * len(block.rows) else block
        same = _same(block, labels)
        terms = f.value(block.scores, same, *parameters)
        slopes = f.derivative(block.scores, same, *parameters)
        if selects:
            terms, slopes = _own(terms, block.scores), _own(slopes, block.scores)
            # A row left out may have any value, infinite ones too, so it is overwritten and not multiplied by 0.
            block.leave_out(0.0, terms, slopes)
        active = slopes != 0
        if block.bias is None:
            count += active.sum(dim=1)
        else:
            weights, gone = block.bias.exp(), block.bias == -torch.inf
            terms.masked_fill_(gone, 0.0).mul_(weights)
            slopes.masked_fill_(gone, 0.0).mul_(weights)
            count += (active * weights).sum(dim=1)
        value += terms.sum(dim=1)
        _add_gradient(gradient, slopes, active, block.rows)
    return value, count, gradient


def _threshold(f: PairFunction, queries: Tensor) -> float | None:
    """The score up to which f is 0 for all queries; None where that saves nothing, or asking would wait for the device.

    Looking at every score once for the highest of each row is cheaper than the few passes that f takes.
    """
    if f.zero_up_to is None or queries.device.type != "cpu" or not len(queries):
        return None
    return float(torch.as_tensor(f.zero_up_to(*f.arguments())).min())


def _own(values: Tensor, scores: Tensor) -> Tensor:
    """Values that may be written in place: a pair function may return the scores themselves, or an expanded number."""
    dense = values.is_contiguous() or values.T.is_contiguous()
    shared = values.data_ptr() == scores.data_ptr() or not dense
    return values.clone(memory_format=torch.contiguous_format) if shared else values


def _add_gradient(
    gradient: Float[Tensor, "batch dim"],
    slopes: Float[Tensor, "batch columns"],
    active: Bool[Tensor, "batch columns"],
    rows: Float[Tensor, "columns dim"],
) -> None:
    """Add ``slopes @ rows``, on the CPU from the active rows only where they are few, as under a margin."""
    if slopes.device.type == "cpu":
        columns = active.any(dim=0).nonzero().squeeze(1)
        if len(columns) < _FEW * len(rows):
            gradient.addmm_(slopes.index_select(1, columns), rows.index_select(0, columns))
            return
    gradient.addmm_(slopes, rows)


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
