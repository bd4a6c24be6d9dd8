"""`import torchbank` costs little more than `import torch`."""

import json
import subprocess
import sys

OPTIONAL = (
    "accelerate",
    "kornia",
    "PIL",
    "tensorboard",
    "matplotlib",
    "tyro",
    "rich",
    "faiss",
    "jinja2",
    "scipy",
    "motrics",
    "av",
)


def run(script: str) -> dict:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_import__loads_no_optional_package_and_no_compiler() -> None:
    script = """
import json, sys
import torch
before = set(sys.modules)
import torchbank
bank = torchbank.MemoryBank(8, 4)
bank.push(torch.eye(4))
bank.nearest(torch.eye(4), 2)
torchbank.losses.info_nce(torch.eye(4, requires_grad=True), torch.eye(4), bank).backward()
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    loaded = run(script)
    assert not [name for name in loaded if name.split(".")[0] in OPTIONAL]
    assert not [name for name in loaded if name.startswith(("torch._dynamo", "torch._inductor"))]


def test_import__within_twenty_percent_of_torch() -> None:
    """The best of five, each a process of its own, since the machine is noisy."""
    script = """
import json, time
start = time.perf_counter()
import torch
middle = time.perf_counter()
import torchbank
print(json.dumps([middle - start, time.perf_counter() - middle]))
"""
    times = [run(script) for _ in range(5)]
    assert min(ours for _, ours in times) < 0.2 * min(torch for torch, _ in times)
