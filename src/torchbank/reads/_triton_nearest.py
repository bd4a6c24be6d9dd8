"""`nearest` by group maxima as two Triton kernels.

The first computes scores block by block and writes the maximum of each group of rows alone; the k best rows of a
query lie in the k groups with the best maxima. The second scores the rows of the groups that won once more, in
float32. Both look at the row selection pair by pair, and neither waits for the device.

The first pass multiplies as float32 does (see `_triton_products`), so it ranks groups up to rounding; a margin of
groups beyond k makes the result exact unless more rows than those tie within rounding. Rows whose values are
denormal numbers in float32 are ranked more coarsely, since tensor cores hold fewer bits of them.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from torchbank.reads._group_maxima import center_of
from torchbank.reads._selection import Selection
from torchbank.reads._triton_launch import launch_scores, on_device, read_width, splits_for
from torchbank.reads._triton_masks import KernelSelection, kept_pairs, kernel_selection, real_rows
from torchbank.reads._triton_products import as_operand, bound, in_range, product, products_for, split

# Rows of a group: large groups leave few maxima to rank, small ones few rows to score again.
_GROUP_FOR_FEW, _GROUP, _FEW_NEIGHBORS = 32, 16, 16
# Groups beyond k that are scored again, as both passes round.
_MARGIN = 8
# Maxima that are ranked at a time (64 MB): a super-block of the bank has so many over all queries.
_MAXIMA = 1 << 24
# Rows scored again by one program, and values of a row at a time.
_AGAIN_ROWS, _AGAIN_VALUES = 32, 128


def nearest(
    queries: Float[Tensor, "batch dim"], rows: Float[Tensor, "rows dim"], k: int, metric: str, selection: Selection
) -> tuple[Tensor, Tensor]:
    """Scores (batch, k) and slots (batch, k) of float32 queries; -inf and -1 where there are fewer than k rows."""
    seen = kernel_selection(selection, queries)
    group = _GROUP_FOR_FEW if k <= _FEW_NEIGHBORS else _GROUP
    best = _best_groups(queries, rows, seen, k + _MARGIN, group, metric)
    scores = _score_again(queries, rows, seen, best, group, metric)
    chosen = scores.topk(min(k, scores.shape[1]), dim=1)
    slots = best.gather(1, chosen.indices // group) * group + chosen.indices % group
    slots = slots.masked_fill(chosen.values == -torch.inf, -1)
    missing = (0, k - slots.shape[1])
    return pad(chosen.values, missing, value=-torch.inf), pad(slots, missing, value=-1)


def _best_groups(
    queries: Tensor, rows: Tensor, seen: KernelSelection, width: int, group: int, metric: str
) -> Int64[Tensor, "batch width"]:
    """The groups with the best maxima, as many as there are up to ``width``; group g holds the rows from g * size."""
    batch = len(queries)
    center = center_of(rows, queries) if metric == "euclidean" else None
    operand = rows.dtype if center is None else torch.float32
    centered, unit = in_range(queries if center is None else queries - center, operand)
    columns = read_width(queries.shape[1])
    parts = products_for(operand, fast=False).query_parts
    launch = launch_scores(batch, columns, operand, parts, queries.device)
    run = max(1, _MAXIMA // (batch * (launch.block_rows // group))) * launch.block_rows
    maxima = queries.new_empty(batch, 0)
    groups = torch.empty(batch, 0, dtype=torch.int64, device=queries.device)
    for first in range(0, len(rows), run):
        last = min(first + run, len(rows))
        found = queries.new_full((batch, -(-(last - first) // group)), -torch.inf)
        query_blocks = -(-batch // launch.block_queries)
        splits = splits_for(query_blocks, last - first, launch.block_rows, queries.device)
        with on_device(queries):
            _group_maxima[(query_blocks, splits)](
                centered,
                unit,
                rows,
                None if center is None else center.contiguous(),
                *seen,
                found,
                batch,
                first,
                last,
                found.shape[1],
                DIM=queries.shape[1],
                WIDTH=columns,
                ROW_STRIDE=rows.stride(0),
                GROUP=group,
                BLOCK_Q=launch.block_queries,
                BLOCK_R=launch.block_rows,
                PARTS=parts,
                STAGES=launch.stages,
                num_warps=launch.warps,  # pyrefly: ignore[unexpected-keyword]
            )
        ranked = found.topk(min(width, found.shape[1]), dim=1)
        maxima = torch.cat([maxima, ranked.values], dim=1)
        groups = torch.cat([groups, ranked.indices + first // group], dim=1)
        if maxima.shape[1] > width:
            maxima, places = maxima.topk(width, dim=1)
            groups = groups.gather(1, places)
    return groups


def _score_again(
    queries: Tensor, rows: Tensor, seen: KernelSelection, groups: Tensor, group: int, metric: str
) -> Float[Tensor, "batch members"]:
    """Score all rows of some groups in float32; -inf where the selection leaves a row out."""
    batch, width = groups.shape
    scores = queries.new_empty(batch, width * group)
    with on_device(queries):
        _scores_of_groups[(batch, -(-scores.shape[1] // _AGAIN_ROWS))](
            queries.contiguous(),
            rows,
            *seen,
            groups,
            scores,
            len(rows),
            width,
            DIM=queries.shape[1],
            WIDTH=min(read_width(queries.shape[1]), _AGAIN_VALUES),
            ROW_STRIDE=rows.stride(0),
            GROUP=group,
            BLOCK_R=_AGAIN_ROWS,
            EUCLIDEAN=metric == "euclidean",
        )
    return scores


@triton.jit(do_not_specialize=["batch", "first_row", "last_row", "groups"])
@no_type_check
def _group_maxima(
    queries,
    unit,
    rows,
    center,
    bias,
    count,
    exclude,
    include,
    maxima_out,
    batch,
    first_row,
    last_row,
    groups,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_R: tl.constexpr,
    PARTS: tl.constexpr,
    STAGES: tl.constexpr,
):
    # 1. A block of queries. They stay in shared memory if they are not wider than the values read at a time.
    DTYPE: tl.constexpr = rows.dtype.element_ty if center is None else tl.float32
    query = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    query_there = query < batch
    column = tl.arange(0, WIDTH)
    place = query.to(tl.int64)[:, None] * DIM
    if DIM <= WIDTH:
        values = tl.load(
            queries + place + column[None, :], mask=query_there[:, None] & (column < DIM)[None, :], other=0.0
        )
        q_high, q_middle, q_low = split(values, DTYPE, PARTS)

    # 2. The real rows of this split of the super-block [first_row, last_row), whole blocks at a time.
    real = tl.maximum(real_rows(count, last_row) - first_row, 0)
    blocks = tl.cdiv(tl.cdiv(real, BLOCK_R), tl.num_programs(1))
    first = first_row + tl.program_id(1).to(tl.int64) * blocks * BLOCK_R
    last = tl.minimum(first + blocks * BLOCK_R, first_row + real)
    inside = tl.arange(0, BLOCK_R)
    for start in tl.range(bound(first), bound(last), BLOCK_R, num_stages=STAGES):
        # 3. Scores s = q . M, or 2 (q - c) . (M - c) - |M - c|^2, which ranks as the distance does.
        row = start + inside
        row_there = row < last
        scores = tl.zeros((BLOCK_Q, BLOCK_R), tl.float32)
        norms = tl.zeros((BLOCK_R,), tl.float32)
        for left in tl.range(0, DIM, WIDTH, num_stages=STAGES):
            column_there = left + column < DIM
            if DIM > WIDTH:
                there = query_there[:, None] & column_there[None, :]
                values = tl.load(queries + place + left + column[None, :], mask=there, other=0.0)
                q_high, q_middle, q_low = split(values, DTYPE, PARTS)
            there = row_there[:, None] & column_there[None, :]
            offset = inside[:, None] * ROW_STRIDE + left + column[None, :]
            block = as_operand(tl.load(rows + start * ROW_STRIDE + offset, mask=there, other=0.0))
            if center is not None:
                block = block.to(tl.float32) - tl.load(center + left + column, mask=column_there, other=0.0)[None, :]
                norms += tl.sum(block * block, axis=1)
            scores += product(q_high, q_middle, q_low, tl.trans(block), PARTS)
        if unit is not None:
            scores = scores * tl.load(unit + query, mask=query_there, other=1.0)[:, None]
        if center is not None:
            scores = 2.0 * scores - norms[None, :]
        if bias is not None:
            scores += tl.load(bias + row, mask=row_there, other=0.0).to(tl.float32)[None, :]
        kept = kept_pairs(exclude, include, query, row, query_there, row_there)
        scores = tl.where(kept, scores, float("-inf"))

        # 4. The maximum of each group. Blocks that hold no real row keep the -inf that was there before.
        best = tl.max(tl.reshape(scores, (BLOCK_Q, BLOCK_R // GROUP, GROUP)), axis=2)
        group = (start - first_row) // GROUP + tl.arange(0, BLOCK_R // GROUP)
        tl.store(
            maxima_out + query.to(tl.int64)[:, None] * groups + group[None, :],
            best,
            mask=query_there[:, None] & (group < groups)[None, :],
        )


@triton.jit(do_not_specialize=["n_rows", "width"])
@no_type_check
def _scores_of_groups(
    queries,
    rows,
    bias,
    count,
    exclude,
    include,
    groups,
    scores_out,
    n_rows,
    width,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    ROW_STRIDE: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_R: tl.constexpr,
    EUCLIDEAN: tl.constexpr,
):
    # 1. Some members of the groups of one query, and the rows that they are.
    query = tl.program_id(0).to(tl.int64) + tl.arange(0, 1)
    member = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    there = member < width * GROUP
    group = tl.load(groups + tl.program_id(0).to(tl.int64) * width + member // GROUP, mask=there, other=0)
    row = group * GROUP + member % GROUP
    row_there = there & (row < real_rows(count, n_rows))

    # 2. q . M, or -|q - M|^2 from the differences, a run of columns at a time.
    column = tl.arange(0, WIDTH)
    scores = tl.zeros((BLOCK_R,), tl.float32)
    for left in range(0, DIM, WIDTH):
        column_there = left + column < DIM
        values = tl.load(queries + tl.program_id(0).to(tl.int64) * DIM + left + column, mask=column_there, other=0.0)
        block = tl.load(
            rows + row[:, None] * ROW_STRIDE + (left + column)[None, :],
            mask=row_there[:, None] & column_there[None, :],
            other=0.0,
        ).to(tl.float32)
        if EUCLIDEAN:
            scores -= tl.sum((block - values[None, :]) * (block - values[None, :]), axis=1)
        else:
            scores += tl.sum(block * values[None, :], axis=1)

    # 3. Bias and selection.
    if bias is not None:
        scores += tl.load(bias + row, mask=row_there, other=0.0).to(tl.float32)
    kept = kept_pairs(exclude, include, query, row, query == query, row_there)
    scores = tl.where(kept, scores[None, :], float("-inf"))
    tl.store(scores_out + query[:, None] * (width * GROUP) + member[None, :], scores, mask=there[None, :])
