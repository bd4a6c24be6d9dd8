"""How the kernels are launched: block sizes by shape and dtype, and how a bank is split to fill a GPU.

Choices are static: searching for the best at run time would wait for the device, and could not be captured in a
CUDA graph. They are reasoned for an H100 and not yet measured; this file is the place to change them.
"""

from contextlib import AbstractContextManager
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

# Partial results of at most this many splits are merged.
MOST_SPLITS = 512
# A split has at least so many blocks of rows, or merging costs more than it saves.
_LEAST_BLOCKS = 4
# Programs for each multiprocessor.
_WAVES = 2
# Kept free of the shared memory of a multiprocessor for what the compiler adds (reductions, changes of layout).
_SPARE = 24 << 10
# In the interpreter: enough for a bank to be split.
_INTERPRETED_PROCESSORS = 4


class Launch(NamedTuple):
    """One row of the table of configurations."""

    block_queries: int
    block_rows: int
    warps: int
    stages: int


def padded(dim: int) -> int:
    """The width of a row in a kernel: a power of two, 16 at least as tensor cores need."""
    return max(16, 1 << (dim - 1).bit_length())


def read_width(dim: int) -> int:
    """Values of a row that a kernel of scores alone reads at a time; all of them up to 128."""
    return padded(dim) if dim <= 128 else 64


def launch_for(batch: int, width: int, dtype: torch.dtype, parts: int, device: torch.device) -> Launch:
    """Block sizes for scores and sums of rows of ``width`` values, queries split into ``parts``."""
    wide = width > 128
    if dtype == torch.float32:
        # Few rows a block where sums are wide: sums and products of one block stay in registers together.
        launch = Launch(64, 16, 8, 2) if wide else Launch(128, 32, 8, 2)
    else:
        launch = Launch(64 if wide else 128, 64, 8, 2 if wide else 3)
    return _smaller(launch, batch, width, dtype, parts, device)


def launch_scores(batch: int, width: int, dtype: torch.dtype, parts: int, device: torch.device) -> Launch:
    """Block sizes for scores alone, of rows read ``width`` values at a time."""
    launch = Launch(64, 64, 8, 2) if dtype == torch.float32 else Launch(128, 128, 8, 2)
    return _smaller(launch, batch, width, dtype, parts, device)


def _smaller(launch: Launch, batch: int, width: int, dtype: torch.dtype, parts: int, device: torch.device) -> Launch:
    """No more queries than there are, and no more shared memory than a program may use."""
    if batch < launch.block_queries:
        queries = max(16, 1 << (batch - 1).bit_length())
        # Four warps are one group of a tensor core's product: 64 queries.
        launch = launch._replace(block_queries=queries, warps=4 if queries <= 32 or width <= 128 else launch.warps)
    if dtype == torch.float32:
        # Three bfloat16 parts of both sides beside the rows as they are stored.
        query_bytes, staged_bytes, row_bytes = 6, 4, 6
    else:
        query_bytes, staged_bytes, row_bytes = 2 * parts, 2, 0
    limit = shared_memory(device) - _SPARE

    def needed(launch: Launch) -> int:
        rows = launch.block_rows * (launch.stages * staged_bytes + row_bytes)
        return width * (launch.block_queries * query_bytes + rows)

    while needed(launch) > limit and launch.stages > 1:
        launch = launch._replace(stages=launch.stages - 1)
    while needed(launch) > limit and launch.block_queries > 16:
        launch = launch._replace(block_queries=launch.block_queries // 2, warps=4)
    while needed(launch) > limit and launch.block_rows > 32:
        launch = launch._replace(block_rows=launch.block_rows // 2)
    return launch


def splits_for(query_blocks: int, rows: int, block_rows: int, device: torch.device) -> int:
    """Into how many runs the bank is cut, each read by a program for each block of queries."""
    wanted = _WAVES * processors(device) // query_blocks
    return max(1, min(wanted, rows // (_LEAST_BLOCKS * block_rows), MOST_SPLITS))


def on_device(queries: Tensor) -> AbstractContextManager:
    """Kernels are launched on the current device: make it that of the queries."""
    return torch.cuda.device_of(queries)


@cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a device."""
    if device.type != "cuda":
        return _INTERPRETED_PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that one program may use; those of an H100 in the interpreter."""
    if device.type != "cuda":
        return 227 << 10
    return getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", 48 << 10)
