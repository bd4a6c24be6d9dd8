"""The row selection inside a kernel: compared value by value where the scores are, never as a (batch x rows) mask.

A kernel gets the clauses as nested tuples of pointers, ``((query values, row values), ...)`` for each clause, and
unrolls them: it is compiled once for each form of selection, whatever the values.
"""

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from torchbank.reads._selection import Clause, Match, Selection


class KernelSelection(NamedTuple):
    """A `Selection` as the kernels take it.

    Attributes:
        bias: ``(rows,)`` or None.
        count: 0-d int64 on the device, or None: only the first ``count`` rows are read.
        exclude: Clauses of matches; empty for none.
        include: The same.
    """

    bias: Tensor | None
    count: Tensor | None
    exclude: tuple[Clause, ...]
    include: tuple[Clause, ...]


def kernel_selection(selection: Selection, queries: Tensor) -> KernelSelection:
    """Lay a selection out for pointers: one step between values, and query values of the dtype of the comparison."""
    count = selection.count
    return KernelSelection(
        None if selection.bias is None else selection.bias.contiguous(),
        None if count is None else count.to(queries.device, torch.int64, non_blocking=True),
        tuple(tuple(_match(match) for match in clause) for clause in selection.exclude),
        tuple(tuple(_match(match) for match in clause) for clause in selection.include),
    )


def _match(match: Match) -> Match:
    """Both sides as PyTorch's ``==`` would compare them; the kernel casts the row values, which are many."""
    query_values, row_values = match
    dtype = torch.promote_types(query_values.dtype, row_values.dtype)
    if dtype in (torch.bfloat16, torch.float16):
        # Their values are float32 values; -0 still equals 0, and NaN nothing.
        dtype = torch.float32
    query_values, row_values = query_values.to(dtype), row_values
    return _bytes_of_bool(query_values.contiguous()), _bytes_of_bool(row_values.contiguous())


def _bytes_of_bool(values: Tensor) -> Tensor:
    return values.view(torch.uint8) if values.dtype == torch.bool else values


@triton.jit
@no_type_check
def real_rows(count, n_rows):
    """How many rows are real: ``min(count, n_rows)``, read on the device."""
    real = n_rows.to(tl.int64)
    if count is not None:
        real = tl.minimum(real, tl.load(count))
    return real


@triton.jit
@no_type_check
def all_agree(clause, query, row, query_there, row_there):
    """[queries, rows]: the conjunction of one clause."""
    held = query_there[:, None] & row_there[None, :]
    for match in tl.static_range(len(clause)):
        query_values = tl.load(clause[match][0] + query, mask=query_there, other=0)
        row_values = tl.load(clause[match][1] + row, mask=row_there, other=0).to(query_values.dtype)
        held = held & (query_values[:, None] == row_values[None, :])
    return held


@triton.jit
@no_type_check
def any_holds(clauses, query, row, query_there, row_there):
    """[queries, rows]: the disjunction of at least one clause."""
    held = all_agree(clauses[0], query, row, query_there, row_there)
    for clause in tl.static_range(1, len(clauses)):
        held = held | all_agree(clauses[clause], query, row, query_there, row_there)
    return held


@triton.jit
@no_type_check
def kept_pairs(exclude, include, query, row, query_there, row_there):
    """[queries, rows]: the pairs that the clauses leave in."""
    kept = query_there[:, None] & row_there[None, :]
    if len(exclude) > 0:
        kept = kept & (any_holds(exclude, query, row, query_there, row_there) == 0)
    if len(include) > 0:
        kept = kept & any_holds(include, query, row, query_there, row_there)
    return kept
