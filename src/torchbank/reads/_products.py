"""Which form of a matrix product is fastest on this processor, found by timing small ones, once in a process.

Names of processors and flags of instructions do not tell: bfloat16 instructions without tiles may be no faster than
float32, and the same product of a vector may be twice as fast on one maker's cores as on another's.
"""

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

# Queries, rows and dim of the products that are timed; as many rows as stay in the second-level cache.
_BATCH, _ROWS, _DIM = 256, 4096, 128
_ROUNDS = 8
# Rows that one core multiplies with one vector.
_RUN = 1024
# By how much bfloat16 must win: converting rows and bounding what rounding takes from them cost the rest.
_BFLOAT16_GAIN = 1.5


@cache
def bfloat16_pays() -> bool:
    """Whether bfloat16 products are worth it here (some 20 ms where the processor has instructions for them)."""
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    if not torch.backends.mkldnn.is_available() or not any(getattr(torch.cpu, name, bool)() for name in known):
        return False
    return _seconds_of_product(torch.float32) > _BFLOAT16_GAIN * _seconds_of_product(torch.bfloat16)


def bf16_products(queries: Tensor, rows: Tensor) -> torch.dtype | None:
    """bfloat16 where its products of float32 queries with rows of it, on the CPU, are faster; else None."""
    fits = queries.is_cpu and queries.dtype == torch.float32 and rows.dtype == torch.bfloat16
    return torch.bfloat16 if fits and bfloat16_pays() else None


def multiply_vector(query: Tensor, rows: Tensor, scores: Tensor) -> None:
    """Write ``query @ rows.T`` for one query, in the form that is fastest here.

    Args:
        query: ``(1, dim)``, on the CPU.
        rows: ``(rows, dim)`` of the same dtype.
        scores: ``(1, rows)``, contiguous; written.
    """
    multiply = _vector_form() if len(rows) >= 2 * _RUN else _whole
    done = len(rows) if multiply is _whole else len(rows) // _RUN * _RUN
    multiply(query, rows[:done], scores[:, :done])
    if done < len(rows):
        _whole(query, rows[done:], scores[:, done:])


def _whole(query: Tensor, rows: Tensor, scores: Tensor) -> None:
    torch.mm(query, rows.T, out=scores)


def _vector_by_runs(query: Tensor, rows: Tensor, scores: Tensor) -> None:
    runs = rows.view(-1, _RUN, rows.shape[1])
    torch.bmm(query.expand(len(runs), -1, -1), runs.transpose(1, 2), out=scores.view(-1, 1, _RUN))


def _runs_by_vector(query: Tensor, rows: Tensor, scores: Tensor) -> None:
    runs = rows.view(-1, _RUN, rows.shape[1])
    torch.bmm(runs, query.T.expand(len(runs), -1, -1), out=scores.view(-1, _RUN, 1))


@cache
def _vector_form() -> Callable[[Tensor, Tensor, Tensor], None]:
    """The fastest form: some run the product of a matrix and one vector on one core, and a batch of them on all."""
    query, rows, scores = torch.ones(1, _DIM), torch.ones(_ROWS, _DIM), torch.empty(1, _ROWS)
    forms = (_whole, _vector_by_runs, _runs_by_vector)
    return min(forms, key=lambda form: _least_seconds(lambda: form(query, rows, scores)))


def _seconds_of_product(dtype: torch.dtype) -> float:
    queries, rows = torch.ones(_BATCH, _DIM, dtype=dtype), torch.ones(_ROWS, _DIM, dtype=dtype)
    scores = torch.empty(_BATCH, _ROWS, dtype=dtype)
    return _least_seconds(lambda: torch.mm(queries, rows.T, out=scores))


def _least_seconds(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return min(taken)
