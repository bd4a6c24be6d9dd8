"""The Triton kernels compiled for an H100, which needs no GPU: what only the compiler refuses, and what they need.

Triton's interpreter knows neither types that change in a loop nor shared memory.
"""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

# Runs in a process of its own, where Triton is not in its interpreter and believes in a GPU that it only compiles for.
SCRIPT = """
import sys
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

class CompileOnly:
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device: 0)

triton.runtime.driver.set_active(CompileOnly())
run, seen = JITFunction.run, []

def compile_only(self, *args, grid, warmup, **options):
    kernel = run(self, *args, grid=grid, warmup=True, **options)
    seen.append((kernel.metadata.name, kernel.metadata.shared))
    return kernel

JITFunction.run = compile_only
from torchbank.losses._contrastive import _EXCESS
from torchbank.reads import Selection, attend, nearest, pair_sum
from torchbank.reads import _cuda_forms

_cuda_forms._interpreted = lambda: True  # the door takes kernels on the CPU
batch, dim, dtype = int(sys.argv[1]), int(sys.argv[2]), getattr(torch, sys.argv[3])
queries, rows = torch.zeros(batch, dim), torch.zeros(5000, dim, dtype=dtype)
ids, own = torch.arange(batch), torch.arange(5000)
fields = ((ids, own), (ids.int(), own)), ((ids > 0, own > 9),)
selection = Selection(exclude=fields, include=fields[1:], count=torch.tensor(9))
for chosen in (Selection(), selection) if batch > 16 else (Selection(bias=torch.zeros(5000)),):
    if dim <= 256:
        attend(queries, rows, scale=1.0, selection=chosen, impl="triton")
        pair_sum(queries, rows, _EXCESS.with_parameters(0.5), selection=chosen, impl="triton")
    nearest(queries, rows, 10, metric="euclidean" if batch == 1 else "dot", selection=chosen, impl="triton")
for name, shared in seen:
    print(name, shared)
    assert shared <= 227 * 1024, (name, shared)
assert {name for name, _ in seen} >= {"_group_maxima", "_scores_of_groups"}
assert dim > 256 or {name for name, _ in seen} >= {"_attend_split", "_merge", "_pair_sum_split"}
"""


@pytest.mark.parametrize(
    ("batch", "dim", "dtype"),
    [(1024, 128, "bfloat16"), (1, 100, "float16"), (100, 256, "float32"), (100, 768, "bfloat16")],
)
def test_kernels__compile_for_hopper_within_its_shared_memory(batch: int, dim: int, dtype: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(batch), str(dim), dtype],
        capture_output=True,
        text=True,
        env=environment,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
