"""`pair_sum` as one Triton kernel, for the functions that have a closed form known here.

Like `attend`, a program reads one split of the bank for one block of queries, and keeps three sums over its rows:
w f(s), w [f'(s) != 0] and w f'(s) M, with w = exp(beta). The splits are added up in their order.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from torchbank.reads._pair_function import PairFunction
from torchbank.reads._selection import Selection
from torchbank.reads._triton_launch import launch_for, on_device, padded, splits_for
from torchbank.reads._triton_masks import kept_pairs, kernel_selection, real_rows
from torchbank.reads._triton_products import as_operand, bound, in_range, product, products_for, split


def pair_sum(
    queries: Float[Tensor, "batch dim"], rows: Float[Tensor, "rows dim"], f: PairFunction, selection: Selection
) -> tuple[Tensor, Tensor, Tensor]:
    """Value (batch,), count (batch,) and gradient (batch, dim) of a function with a closed form, float32 queries."""
    (batch, dim), width = queries.shape, padded(queries.shape[1])
    parts = products_for(rows.dtype, fast=False)
    launch = launch_for(batch, width, rows.dtype, parts.query_parts, queries.device)
    query_blocks = -(-batch // launch.block_queries)
    splits = splits_for(query_blocks, len(rows), launch.block_rows, queries.device)
    in_units, unit = in_range(queries, rows.dtype)
    value, count = queries.new_empty(2, splits, batch)
    gradient = queries.new_empty(splits, batch, dim)
    with on_device(queries):
        _pair_sum_split[(query_blocks, splits)](
            in_units,
            unit,
            rows,
            *kernel_selection(selection, queries),
            _margin(f, queries),
            value,
            count,
            gradient,
            batch,
            len(rows),
            FORM=f.closed_form,
            DIM=dim,
            WIDTH=width,
            ROW_STRIDE=rows.stride(0),
            BLOCK_Q=launch.block_queries,
            BLOCK_R=launch.block_rows,
            QUERY_PARTS=parts.query_parts,
            STAGES=launch.stages,
            num_warps=launch.warps,  # pyrefly: ignore[unexpected-keyword]
        )
    return value.sum(dim=0), count.sum(dim=0), gradient.sum(dim=0)


def _margin(f: PairFunction, queries: Tensor) -> Float[Tensor, " batch"] | None:
    """The margin of ``"excess"`` as one number a query."""
    if f.closed_form != "excess":
        return None
    (margin,) = f.parameters
    if isinstance(margin, Tensor):
        return margin.to(torch.float32).contiguous()
    return queries.new_full(queries.shape[:1], margin)


@triton.jit
@no_type_check
def terms_of(scores, margin, FORM: tl.constexpr):
    """Values and slopes, f and f', of a block of scores; slopes are whole numbers, which any dtype of rows holds."""
    if FORM == "score":
        terms = scores
        slopes = tl.zeros_like(scores) + 1.0
    elif FORM == "distance":
        terms = 1.0 - scores
        slopes = tl.zeros_like(scores) - 1.0
    else:
        tl.static_assert(FORM == "excess")
        over = scores - margin[:, None]
        terms = tl.maximum(over, 0.0)
        slopes = tl.where(over > 0.0, 1.0, 0.0)
    return terms, slopes


@triton.jit(do_not_specialize=["batch", "n_rows"])
@no_type_check
def _pair_sum_split(
    queries,
    unit,
    rows,
    bias,
    count,
    exclude,
    include,
    margin_in,
    value_out,
    count_out,
    gradient_out,
    batch,
    n_rows,
    FORM: tl.constexpr,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_R: tl.constexpr,
    QUERY_PARTS: tl.constexpr,
    STAGES: tl.constexpr,
):
    # 1. A block of queries and their margins.
    DTYPE: tl.constexpr = rows.dtype.element_ty
    query = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    query_there = query < batch
    column = tl.arange(0, WIDTH)
    place = query.to(tl.int64)[:, None] * DIM + column[None, :]
    values = tl.load(queries + place, mask=query_there[:, None] & (column < DIM)[None, :], other=0.0)
    q_high, q_middle, q_low = split(values, DTYPE, QUERY_PARTS)
    margin = tl.zeros((BLOCK_Q,), tl.float32)
    if margin_in is not None:
        margin = tl.load(margin_in + query, mask=query_there, other=0.0)

    # 2. The rows of this split: the real ones are shared out evenly, whole blocks at a time.
    real = real_rows(count, n_rows)
    blocks = tl.cdiv(tl.cdiv(real, BLOCK_R), tl.num_programs(1))
    first = tl.program_id(1).to(tl.int64) * blocks * BLOCK_R
    last = tl.minimum(first + blocks * BLOCK_R, real)

    value = tl.zeros((BLOCK_Q,), tl.float32)
    active = tl.zeros((BLOCK_Q,), tl.float32)
    gradient = tl.zeros((BLOCK_Q, WIDTH), tl.float32)
    inside = tl.arange(0, BLOCK_R)
    for start in tl.range(bound(first), bound(last), BLOCK_R, num_stages=STAGES):
        # 3. Scores s = q . M of one block, f(s) and f'(s).
        row = start + inside
        row_there = row < last
        offset = inside[:, None] * ROW_STRIDE + column[None, :]
        there = row_there[:, None] & (column < DIM)[None, :]
        block = as_operand(tl.load(rows + start * ROW_STRIDE + offset, mask=there, other=0.0))
        scores = product(q_high, q_middle, q_low, tl.trans(block), QUERY_PARTS)
        if unit is not None:
            scores = scores * tl.load(unit + query, mask=query_there, other=1.0)[:, None]
        terms, slopes = terms_of(scores, margin, FORM)

        # 4. Pairs that are left out count nothing, whatever their value; the others count exp(beta).
        kept = kept_pairs(exclude, include, query, row, query_there, row_there)
        weights = tl.full((BLOCK_R,), 1.0, tl.float32)
        if bias is not None:
            weights = tl.exp(tl.load(bias + row, mask=row_there, other=0.0).to(tl.float32))
            kept = kept & (weights > 0.0)[None, :]
        terms = tl.where(kept, terms * weights[None, :], 0.0)
        value += tl.sum(terms, axis=1)
        active += tl.sum(tl.where(kept & (slopes != 0.0), weights[None, :], 0.0), axis=1)

        # 5. The gradient: slopes of whole numbers are exact in the rows' dtype, weighted ones need float32.
        if bias is None:
            slopes = tl.where(kept, slopes, 0.0)
            s_high, s_middle, s_low = split(slopes, DTYPE, 1)
            gradient = gradient + product(s_high, s_middle, s_low, block, 1)
        else:
            slopes = tl.where(kept, slopes * weights[None, :], 0.0)
            gradient = gradient + product(slopes, slopes, slopes, block.to(tl.float32), 1)

    # 6. The sums of this split.
    at = tl.program_id(1).to(tl.int64) * batch + query
    tl.store(value_out + at, value, mask=query_there)
    tl.store(count_out + at, active, mask=query_there)
    tl.store(
        gradient_out + at[:, None] * DIM + column[None, :],
        gradient,
        mask=query_there[:, None] & (column < DIM)[None, :],
    )
