"""Timing and memory, made for noisy machines.

The contestants of a case take turns, round after round, so that a slow second hits all of them; the table
reports medians and their ratios. Peak memory is read in a process of its own.
"""

import json
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

Step = Callable[[], object]


def device_name() -> str:
    """The accelerator's name, or the processor's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if sys.platform == "linux":
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        if found:
            return found[1]
    return platform.processor()


def machine() -> dict:
    """What the numbers were measured on."""
    return {
        "device": device_name(),
        "cores": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def seconds(step: Step) -> float:
    """One timed call."""
    start = time.perf_counter()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def take_turns(contestants: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, after one warm-up call each."""
    for step in contestants.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, step in contestants.items():
            times[name].append(seconds(step))
    return times


def row(case: dict, name: str, times: list[float], **more: object) -> dict:
    """One line of the results: the case, who ran it and how long it took."""
    return {
        **case,
        "who": name,
        "median_ms": statistics.median(times) * 1e3,
        "min_ms": min(times) * 1e3,
        "rounds": len(times),
        **more,
    }


def ceilings() -> dict[str, float]:
    """This machine's own limits, measured now: a large matrix product and a large copy."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    source, target = torch.randn(1 << 26), torch.empty(1 << 26)
    product = statistics.median(seconds(lambda: a @ b) for _ in range(7))
    copy = statistics.median(seconds(lambda: target.copy_(source)) for _ in range(7))
    return {"matmul_gflops": 2 * 2048**3 / product / 1e9, "copy_gbytes": 2 * source.nbytes / copy / 1e9}


def megabytes_beyond(step: Step) -> float:
    """The peak of this process's memory during one call, beyond what it held before (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _status_megabytes("VmRSS")
    step()
    return max(0.0, _status_megabytes("VmHWM") - before)


def _status_megabytes(name: str) -> float:
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def extra_megabytes(module: str, case: dict, who: str) -> float:
    """Peak memory of one call beyond the bank and the inputs, measured in a fresh process."""
    command = [sys.executable, "-m", module, "--memory", json.dumps(case), who]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])
