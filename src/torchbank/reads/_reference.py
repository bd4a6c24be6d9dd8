"""The three reads in plain PyTorch: the truth that every other implementation is tested against.

They build the full (batch x rows) matrix and are differentiable by autograd on both sides, which is what a
loss over the batch itself needs.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from torchbank.reads._pair_function import PairFunction
from torchbank.reads._results import Neighbors, PairSum, Readout
from torchbank.reads._selection import Match, Selection, kept_mask


def compute_dtype(queries: Tensor) -> torch.dtype:
    """Reads compute in float32 at least, and in float64 for float64 queries."""
    return torch.float64 if queries.dtype == torch.float64 else torch.float32


def _scores(queries: Tensor, rows: Tensor) -> Float[Tensor, "batch rows"]:
    dtype = compute_dtype(queries)
    return queries.to(dtype) @ rows.to(dtype).T


def attend_reference(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    scale: Float[Tensor, ""],
    selection: Selection,
) -> Readout:
    """`attend` with the whole logit matrix."""
    logits = scale * _scores(queries, rows)
    if selection.bias is not None:
        logits = logits + selection.bias
    kept = kept_mask(selection, logits)
    nothing = ~kept.any(dim=1)
    # A row of nothing but -inf has no gradient but NaN, so it is computed on zeros and replaced.
    logits = logits.masked_fill(~kept, -torch.inf).masked_fill(nothing[:, None], 0.0)
    lse = logits.logsumexp(dim=1).masked_fill(nothing, -torch.inf)
    weights = logits.detach().softmax(dim=1).masked_fill(nothing[:, None], 0.0)
    return Readout(lse, weights @ rows.detach().to(weights.dtype))


def nearest_reference(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    k: int,
    metric: str,
    selection: Selection,
) -> Neighbors:
    """`nearest` with the whole score matrix and `torch.topk`."""
    dtype = compute_dtype(queries)
    if metric == "euclidean":
        differences = queries.to(dtype)[:, None, :] - rows.to(dtype)[None, :, :]
        scores = -differences.square().sum(dim=2)
    else:
        scores = _scores(queries, rows)
    if selection.bias is not None:
        scores = scores + selection.bias
    scores = scores.masked_fill(~kept_mask(selection, scores), -torch.inf)
    missing = max(0, k - scores.shape[1])
    scores = torch.nn.functional.pad(scores, (0, missing), value=-torch.inf)
    best, slots = scores.topk(k, dim=1)
    valid = best != -torch.inf
    return Neighbors(best, slots.masked_fill(~valid, -1), valid)


def pair_sum_reference(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    f: PairFunction,
    labels: Match | None,
    selection: Selection,
) -> PairSum:
    """`pair_sum` with the whole score matrix."""
    scores = _scores(queries, rows)
    same = torch.zeros_like(scores, dtype=torch.bool) if labels is None else labels[0][:, None] == labels[1][None, :]
    weights = kept_mask(selection, scores).to(scores.dtype)
    if selection.bias is not None:
        weights = weights * selection.bias.exp()
    values = f.value(scores, same, *f.arguments())
    active = f.derivative(scores.detach(), same, *f.arguments()) != 0
    # where, not a product: a value may be infinite at a row that was left out.
    value = torch.where(weights > 0, values * weights, 0.0).sum(dim=1)
    return PairSum(value, (active * weights).sum(dim=1))
