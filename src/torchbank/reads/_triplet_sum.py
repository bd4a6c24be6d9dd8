"""`triplet_sum`: the hinge of every triplet of a query, a row of its label and a row of another, streamed.

A first pass gathers the scores of the positives, which are few, a second one holds all negatives against them, and
a third one adds the rows of the positives to the gradient; on the CPU the first and third read rows of the queries'
labels only. Nothing of the size (positives x negatives) exists.

Axes: batch (queries), pairs (a query with one of its positives), positives (places by ascending score).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torchbank.errors import check_choice
from torchbank.reads._doors import Impl, check_tensors, without_autocast
from torchbank.reads._first_order import sum_with_gradient
from torchbank.reads._group_maxima import nearest_blocked
from torchbank.reads._reference import compute_dtype, nearest_reference
from torchbank.reads._results import PairSum
from torchbank.reads._selection import SCHEMA, FlatSelection, Match, Selection, brought, kept_mask, real_rows
from torchbank.reads._staging import take
from torchbank.reads._stream import stream
from torchbank.reads._triplet_hinges import Hinges, SortedPositives, sorted_positives
from torchbank.reads._triplet_parts import ALONE, Others, PositivePairs

Mining = Literal["all", "semi-hard", "hardest"]

# Scores of positives in memory at a time (8 MB in float64); where there are more, queries take turns.
_POSITIVES = 1 << 20
# Below this share of negatives above a lowest positive less the margin, copying them is cheaper than searching for all.
_FEW = 0.5


def triplet_sum(
    queries: Tensor,
    rows: Tensor,
    *,
    labels: Match,
    margin: float,
    mining: Mining = "all",
    selection: Selection | None = None,
    impl: Impl = "auto",
) -> PairSum:
    """Sum ``max(0, s_in - s_ip + margin)`` over selected rows p of query i's label and n of other labels.

    The triplet loss of [Schroff et al. 2015, eq. 3](arXiv:1503.03832) on similarities. Rows are constants, the
    gradient of ``value`` reaches ``queries``. A triplet counts ``exp(beta_p + beta_n)`` times. Waits for the device.

    Args:
        queries: ``(batch, dim)``, any floating dtype; computed in float32, float64 queries in float64.
        rows: ``(rows, dim)`` floating, on the queries' device.
        labels: Query labels (batch,) and row labels (rows,).
        margin: How far a positive must be ahead of a negative.
        mining: ``"all"`` triplets; ``"semi-hard"``, those whose negative scores below the positive (eq. 4 there);
            ``"hardest"``, the lowest positive with the highest negative
            ([Hermans et al. 2017, eq. 5](arXiv:1703.07737)).
        selection: Which rows a query sees; None is all of them.
        impl: ``"reference"`` builds the scores and is differentiable in the rows too and twice; ``"blocked"``
            streams; ``"auto"`` is the fastest.

    Returns:
        `PairSum` of ``value`` (batch,) and ``count`` (batch,) of the triplets above 0.

    Raises:
        BankValueError: Shapes or devices do not fit, or a word is unknown.
        BankTypeError: A tensor is not floating.
        BankStateError: On differentiating twice, unless ``impl="reference"``.

    Example:
        >>> import torch
        >>> from torchbank.reads import triplet_sum
        >>> queries, rows = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6], [0.6, 0.8], [0.7, 0.7]])
        >>> labels = (torch.tensor([0]), torch.tensor([0, 0, 1]))
        >>> total = triplet_sum(queries, rows, labels=labels, margin=0.2)
        >>> round(total.value.item(), 4), total.count.item()  # 0.7 - 0.8 + 0.2 and 0.7 - 0.6 + 0.2
        (0.4, 2.0)
    """
    check_tensors(queries, rows, selection)
    check_choice("mining", mining, *get_args(Mining))
    check_choice("impl", impl, *get_args(Impl))
    selection = Selection() if selection is None else selection
    positives, _ = _split(labels, selection)
    positives.check(queries.shape[0], rows.shape[0])
    if impl == "reference":
        rows, selection = brought(rows, selection, queries.device)
        with without_autocast(queries):
            labels = (labels[0], labels[1].to(queries.device))
            value, count = triplet_sum_reference(queries, rows, labels, margin, mining, selection)
    else:
        value, count, _ = torch.ops.torchbank.triplet_sum(
            queries, rows, *labels, float(margin), mining, *selection.flat().arguments()
        )
    return PairSum(value, count.detach())


torch.library.define(
    "torchbank::triplet_sum",
    "(Tensor queries, Tensor rows, Tensor query_labels, Tensor row_labels, float margin, str mining, "
    f"{SCHEMA}) -> (Tensor value, Tensor count, Tensor gradient)",
)


@torch.library.impl("torchbank::triplet_sum", "default")
def _triplet_sum(
    queries: Tensor,
    rows: Tensor,
    query_labels: Tensor,
    row_labels: Tensor,
    margin: float,
    mining: str,
    *flat: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    with without_autocast(queries):
        queries = queries.to(compute_dtype(queries))
        rows, selection = real_rows(rows, FlatSelection(*flat).selection())
        labels = (query_labels, row_labels[: len(rows)])
        if not len(queries) or not len(rows):
            return queries.new_zeros(len(queries)), queries.new_zeros(len(queries)), torch.zeros_like(queries)
        if mining != "hardest":
            return triplet_sum_blocked(queries, rows, labels, margin, mining == "semi-hard", selection)
        low, high, weights = _extremes(queries, rows, labels, selection, nearest_blocked)
        lowest, highest = (take(rows, slots.clamp_min(0), queries.device) for slots in (low, high))
        difference = highest.to(queries.dtype) - lowest.to(queries.dtype)
        value, count = _hinge_of_two(queries, difference, margin, weights)
        return value, count, count[:, None] * difference


def triplet_sum_blocked(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    labels: Match,
    margin: float,
    semi_hard: bool,
    selection: Selection,
    others: Others = ALONE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Value (batch,), count (batch,) and the gradient of the value by the queries (batch, dim)."""
    positives, negatives = _split(labels, selection)
    found = _pairs(queries, rows, positives)
    if others.any(found is None, queries.device) or found is None:
        parts = [
            triplet_sum_blocked(
                queries[half], rows, (labels[0][half], labels[1]), margin, semi_hard, selection.of(half), others
            )
            for half in torch.arange(len(queries), device=queries.device).tensor_split(2)
        ]
        value, count, gradient = (torch.cat(part) for part in zip(*parts, strict=True))
        return value, count, gradient
    gradient = torch.zeros_like(queries)
    (query, scores, weights), own = others.join(_joined(found, queries, weighted=selection.bias is not None))
    if not len(query):
        return queries.new_zeros(len(queries)), queries.new_zeros(len(queries)), gradient
    table, place = sorted_positives(query, scores, weights, len(queries))
    hinges = Hinges(table, margin, semi_hard)
    _push_away(queries, rows, negatives, hinges, gradient)
    hinges.add_up(others.total)
    _pull_close(queries, rows, positives, found, hinges.slopes_of_positives()[query, place][own], gradient)
    return hinges.value().to(queries.dtype), hinges.count.to(queries.dtype), gradient


def triplet_sum_reference(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    labels: Match,
    margin: float,
    mining: str,
    selection: Selection,
) -> PairSum:
    """`triplet_sum` with the whole score matrix, though never one of all triplets."""
    queries, rows = (each.to(compute_dtype(queries)) for each in (queries, rows))
    if mining == "hardest" and rows.shape[0]:
        low, high, weights = _extremes(queries, rows, labels, selection, nearest_reference)
        return PairSum(*_hinge_of_two(queries, rows[high] - rows[low], margin, weights))
    scores = queries @ rows.T
    with torch.no_grad():
        kept, same = kept_mask(selection, scores), labels[0][:, None] == labels[1][None, :]
        positives, order = scores.masked_fill(~(kept & same), torch.inf).sort(dim=1)
        weights = None if selection.bias is None else selection.bias.to(scores.dtype).exp()
        weight_table = None if weights is None else weights[order].masked_fill_(positives == torch.inf, 0.0)
        hinges = Hinges(SortedPositives(positives, weight_table), margin, mining == "semi-hard")
        pushes = hinges.add(scores.masked_fill(~kept | same, torch.finfo(scores.dtype).min), weights)
        slopes = pushes.scatter_add(1, order, hinges.slopes_of_positives())
        count = hinges.count.to(scores.dtype)
    # where, not a product: a row that was left out may have any score.
    return PairSum(torch.where(slopes != 0, slopes * scores, 0.0).sum(dim=1) + margin * count, count)


def triplet_sum_of_parts(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    *,
    labels: Match,
    margin: float,
    mining: Mining,
    selection: Selection,
    others: Others,
) -> tuple[Tensor, Tensor, Tensor]:
    """`triplet_sum` where a positive and a negative may lie in different parts of the rows, each with its own reader.

    Args:
        queries: As in `triplet_sum`, like all others; the same in all parts.
        rows: Of this part.
        labels: See there.
        margin: See there.
        mining: ``"all"`` or ``"semi-hard"``.
        selection: See there.
        others: The readers of the other parts.

    Returns:
        Value (batch,) and count (batch,) over all parts, and this part's share of the gradient (batch, dim).
    """
    with without_autocast(queries):
        queries = queries.to(compute_dtype(queries))
        rows, selection = real_rows(rows, selection)
        labels = (labels[0], labels[1][: len(rows)])
        return triplet_sum_blocked(queries, rows, labels, margin, mining == "semi-hard", selection, others)


def _joined(found: "list[_Pairs]", queries: Float[Tensor, "batch dim"], *, weighted: bool) -> PositivePairs:
    """The pairs of all blocks."""
    none = queries.new_zeros(0)
    weights = [none, *(pairs.weights for pairs in found if pairs.weights is not None)]
    return PositivePairs(
        torch.cat([none.to(torch.int64), *(pairs.query for pairs in found)]),
        torch.cat([none, *(pairs.scores for pairs in found)]),
        torch.cat(weights) if weighted else None,
    )


def _split(labels: Match, selection: Selection) -> tuple[Selection, Selection]:
    """The selection of positives, and that of negatives."""
    include = tuple((*clause, labels) for clause in selection.include) or ((labels,),)
    return replace(selection, include=include), replace(selection, exclude=(*selection.exclude, (labels,)))


class _Pairs(NamedTuple):
    """The positive pairs of one block.

    Attributes:
        query: ``(pairs,)``, which query.
        column: ``(pairs,)``, which column of the block.
        scores: ``(pairs,)``.
        weights: ``(pairs,)``, of the rows; None is 1 for all.
    """

    query: Int64[Tensor, " pairs"]
    column: Int64[Tensor, " pairs"]
    scores: Float[Tensor, " pairs"]
    weights: Float[Tensor, " pairs"] | None


def _pairs(
    queries: Float[Tensor, "batch dim"], rows: Float[Tensor, "rows dim"], positives: Selection
) -> list[_Pairs] | None:
    """The positive pairs of each block; None where they are too many for all queries at once."""
    found = []
    counts = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for block in stream(queries, rows, positives):
        block.leave_out(-torch.inf, block.scores)
        weights = None
        if block.bias is not None:
            block.scores.masked_fill_(block.bias == -torch.inf, -torch.inf)
            weights = block.bias.exp()
        query, column = (block.scores > -torch.inf).nonzero(as_tuple=True)
        scores = block.scores[query, column]
        found.append(_Pairs(query, column, scores, None if weights is None else weights[column]))
        counts += query.bincount(minlength=len(queries))
        if len(queries) > 1 and len(queries) * int(counts.max()) > _POSITIVES:
            return None
    return found


def _push_away(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    negatives: Selection,
    hinges: Hinges,
    gradient: Float[Tensor, "batch dim"],
) -> None:
    """Hold all negatives against the positives, and add their part of the gradient."""
    lowest = torch.finfo(queries.dtype).min
    for block in stream(queries, rows, negatives):
        if queries.device.type == "cpu":
            above = (block.scores > hinges.floor).any(dim=0).nonzero().squeeze(1)
            if not len(above):
                continue
            block = block.only(above) if len(above) < _FEW * len(block.rows) else block
        block.leave_out(lowest, block.scores)
        if block.bias is not None:
            block.scores.masked_fill_(block.bias == -torch.inf, lowest)
        slopes = hinges.add(block.scores, None if block.bias is None else block.bias.exp())
        gradient.addmm_(slopes, block.rows)


def _pull_close(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    positives: Selection,
    found: list[_Pairs],
    slopes: Float[Tensor, " pairs"],
    gradient: Float[Tensor, "batch dim"],
) -> None:
    """Add the positives' part of the gradient."""
    parts = slopes.split([len(pairs.query) for pairs in found]) if found else ()
    for block, pairs, part in zip(stream(queries, rows, positives), found, parts, strict=True):
        block.scores.zero_().index_put_((pairs.query, pairs.column), part)
        gradient.addmm_(block.scores, block.rows)


def _extremes(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    labels: Match,
    selection: Selection,
    search: Callable[..., tuple[Tensor, ...]],
) -> tuple[Tensor, Tensor, Tensor]:
    """The slots (batch,) of the lowest positive and the highest negative, -1 where there is none, and their weight."""
    bias = selection.bias
    # Mining looks at the scores alone, so of the bias only the rows that it removes count.
    gone = None if bias is None else torch.zeros_like(bias).masked_fill(bias == -torch.inf, -torch.inf)
    positives, negatives = _split(labels, replace(selection, bias=gone))
    low, high = (
        search(sign * queries.detach(), rows.detach(), 1, "dot", chosen)[1].squeeze(1)
        for sign, chosen in ((-1, positives), (1, negatives))
    )
    weights = ((low >= 0) & (high >= 0)).to(queries.dtype)
    if bias is not None:
        bias = bias.to(weights.dtype)
        weights = weights * (bias[low] + bias[high]).exp()
    return low, high, weights


def _hinge_of_two(
    queries: Float[Tensor, "batch dim"],
    difference: Float[Tensor, "batch dim"],
    margin: float,
    weights: Float[Tensor, " batch"],
) -> tuple[Tensor, Tensor]:
    """Value and count of the triplets of ``difference``, the negative less the positive."""
    hinge = (queries * difference).sum(dim=1) + margin
    count = weights * (hinge.detach() > 0)
    return count * hinge, count


sum_with_gradient("torchbank::triplet_sum")
