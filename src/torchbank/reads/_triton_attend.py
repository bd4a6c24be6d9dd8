"""`attend` as one Triton kernel: attention whose keys and values are the bank's rows, each read once.

The bank is cut into splits, so that a small batch fills a GPU too. A program reads one split for one block of
queries and keeps the running maximum m, the sum l and the readout o of the softmax ([Milakov and Gimelshein
2018](arXiv:1805.02867), [Dao 2023](arXiv:2307.08691)); a second kernel merges the splits in their order, so that the
result is the same at each run. Logits are in base 2: exp(x) = 2^(x log2 e).
"""

import math
from typing import no_type_check

import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from torchbank.reads._selection import Selection
from torchbank.reads._triton_launch import MOST_SPLITS, launch_for, on_device, padded, splits_for
from torchbank.reads._triton_masks import kept_pairs, kernel_selection, real_rows
from torchbank.reads._triton_products import as_operand, bound, in_range, product, products_for, split

# Partial readouts that are merged at a time.
_MERGED = 16


def attend(
    queries: Float[Tensor, "batch dim"],
    rows: Float[Tensor, "rows dim"],
    scale: Float[Tensor, ""],
    selection: Selection,
    *,
    fast: bool,
) -> tuple[Tensor, Tensor]:
    """The log-sum-exp (batch,) and readout (batch, dim) of float32 queries."""
    (batch, dim), width = queries.shape, padded(queries.shape[1])
    parts = products_for(rows.dtype, fast=fast)
    launch = launch_for(batch, width, rows.dtype, parts.query_parts, queries.device)
    query_blocks = -(-batch // launch.block_queries)
    splits = splits_for(query_blocks, len(rows), launch.block_rows, queries.device)
    # In float64, or the rounding of one factor would shift all logits.
    scaled, unit = in_range((queries.double() * (scale.double() * math.log2(math.e))).float(), rows.dtype)
    seen = kernel_selection(selection, queries)
    highest, total = queries.new_empty(2, batch, splits)
    parts_of_readout = queries.new_empty(batch, splits, dim)
    lse, readout = queries.new_empty(batch), queries.new_empty(batch, dim)
    with on_device(queries):
        _attend_split[(query_blocks, splits)](
            scaled,
            unit,
            rows,
            *seen,
            highest,
            total,
            parts_of_readout,
            batch,
            len(rows),
            DIM=dim,
            WIDTH=width,
            ROW_STRIDE=rows.stride(0),
            BLOCK_Q=launch.block_queries,
            BLOCK_R=launch.block_rows,
            QUERY_PARTS=parts.query_parts,
            WEIGHT_PARTS=parts.weight_parts,
            HEADROOM=parts.headroom,
            STAGES=launch.stages,
            num_warps=launch.warps,  # pyrefly: ignore[unexpected-keyword]
        )
        _merge[(batch,)](
            highest,
            total,
            parts_of_readout,
            lse,
            readout,
            splits,
            DIM=dim,
            WIDTH=width,
            SPLITS=MOST_SPLITS,
            BLOCK_S=_MERGED,
            HEADROOM=parts.headroom,
        )
    return lse, readout


@triton.jit(do_not_specialize=["batch", "n_rows"])
@no_type_check
def _attend_split(
    queries,
    unit,
    rows,
    bias,
    count,
    exclude,
    include,
    highest_out,
    total_out,
    readout_out,
    batch,
    n_rows,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_R: tl.constexpr,
    QUERY_PARTS: tl.constexpr,
    WEIGHT_PARTS: tl.constexpr,
    HEADROOM: tl.constexpr,
    STAGES: tl.constexpr,
):
    # 1. A block of queries, split into operands of the rows' dtype. They stay in shared memory.
    DTYPE: tl.constexpr = rows.dtype.element_ty
    query = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    query_there = query < batch
    column = tl.arange(0, WIDTH)
    place = query.to(tl.int64)[:, None] * DIM + column[None, :]
    values = tl.load(queries + place, mask=query_there[:, None] & (column < DIM)[None, :], other=0.0)
    q_high, q_middle, q_low = split(values, DTYPE, QUERY_PARTS)

    # 2. The rows of this split: the real ones are shared out evenly, whole blocks at a time.
    real = real_rows(count, n_rows)
    blocks = tl.cdiv(tl.cdiv(real, BLOCK_R), tl.num_programs(1))
    first = tl.program_id(1).to(tl.int64) * blocks * BLOCK_R
    last = tl.minimum(first + blocks * BLOCK_R, real)

    highest = tl.full((BLOCK_Q,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_Q,), tl.float32)
    readout = tl.zeros((BLOCK_Q, WIDTH), tl.float32)
    inside = tl.arange(0, BLOCK_R)
    for start in tl.range(bound(first), bound(last), BLOCK_R, num_stages=STAGES):
        # 3. Logits s = q . M + beta of one block; -inf where the selection leaves a pair out.
        row = start + inside
        row_there = row < last
        offset = inside[:, None] * ROW_STRIDE + column[None, :]
        there = row_there[:, None] & (column < DIM)[None, :]
        block = as_operand(tl.load(rows + start * ROW_STRIDE + offset, mask=there, other=0.0))
        logits = product(q_high, q_middle, q_low, tl.trans(block), QUERY_PARTS)
        if unit is not None:
            logits = logits * tl.load(unit + query, mask=query_there, other=1.0)[:, None]
        if bias is not None:
            logits += 1.4426950408889634 * tl.load(bias + row, mask=row_there, other=0.0).to(tl.float32)[None, :]
        kept = kept_pairs(exclude, include, query, row, query_there, row_there)
        logits = tl.where(kept, logits, float("-inf"))

        # 4. m' = max(m, max s); with nothing selected so far 0 is subtracted, as -inf - -inf is NaN.
        new_highest = tl.maximum(highest, tl.max(logits, axis=1))
        shift = tl.where(new_highest == float("-inf"), 0.0, new_highest)
        weights = tl.exp2(logits - (shift - HEADROOM)[:, None])
        shrink = tl.exp2(highest - shift)
        # 5. l' = l 2^(m - m') + sum 2^(s - m');  o' = o 2^(m - m') + 2^(s - m') M.
        total = total * shrink + tl.sum(weights, axis=1)
        w_high, w_middle, w_low = split(weights, DTYPE, WEIGHT_PARTS)
        readout = readout * shrink[:, None] + product(w_high, w_middle, w_low, block, WEIGHT_PARTS)
        highest = new_highest

    # 6. What the merge needs.
    at = query.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    tl.store(highest_out + at, highest, mask=query_there)
    tl.store(total_out + at, total, mask=query_there)
    tl.store(
        readout_out + at[:, None] * DIM + column[None, :],
        readout,
        mask=query_there[:, None] & (column < DIM)[None, :],
    )


@triton.jit(do_not_specialize=["splits"])
@no_type_check
def _merge(
    highest_in,
    total_in,
    readout_in,
    lse_out,
    readout_out,
    splits,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_S: tl.constexpr,
    HEADROOM: tl.constexpr,
):
    # 1. m = max_s m_s and l = sum_s 2^(m_s - m) l_s over the splits of one query.
    query = tl.program_id(0).to(tl.int64)
    every = tl.arange(0, SPLITS)
    place = query * splits + every
    highest = tl.load(highest_in + place, mask=every < splits, other=float("-inf"))
    best = tl.max(highest, axis=0)
    shift = tl.where(best == float("-inf"), 0.0, best)
    total = tl.sum(tl.exp2(highest - shift) * tl.load(total_in + place, mask=every < splits, other=0.0), axis=0)
    # 2. lse = (m + log2 l) ln 2; -inf where no row was selected.
    divisor = tl.where(total == 0, 1.0, total)
    lse = (shift - HEADROOM + tl.log2(divisor)) * 0.6931471805599453
    tl.store(lse_out + query, tl.where(total == 0, float("-inf"), lse))
    # 3. o = sum_s 2^(m_s - m) o_s / l.
    column = tl.arange(0, WIDTH)
    readout = tl.zeros((WIDTH,), tl.float32)
    for first in range(0, bound(splits), BLOCK_S):
        some = first + tl.arange(0, BLOCK_S)
        here = query * splits + some
        share = tl.exp2(tl.load(highest_in + here, mask=some < splits, other=float("-inf")) - shift)
        there = (some < splits)[:, None] & (column < DIM)[None, :]
        part = tl.load(readout_in + here[:, None] * DIM + column[None, :], mask=there, other=0.0)
        readout += tl.sum(share[:, None] * part, axis=0)
    tl.store(readout_out + query * DIM + column, readout / divisor, mask=column < DIM)
