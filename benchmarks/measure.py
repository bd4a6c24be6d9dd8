"""Timing and memory, made for noisy machines.

The contestants of a case take turns, round after round, so that a slow second hits all of them. Peak memory is
read by CUDA's allocator, or in a fresh process (Linux).
"""

import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

Step = Callable[[], object]


def device_name(device: str) -> str:
    """The accelerator's name, or the processor's."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    if sys.platform == "linux":
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        if found:
            return found[1]
    return platform.processor()


def machine(device: str) -> dict:
    """What the numbers were measured on."""
    return {
        "device": device_name(device),
        "kind": device,
        "cores": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def available_bytes(device: str) -> int:
    """Memory that a contestant may still take."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024 if found else sys.maxsize


def seconds(step: Step, device: str) -> float:
    """One timed call, by CUDA's events where the device is one."""
    if device == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        step()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def take_turns(contestants: dict[str, Step], rounds: int, device: str, limit: float) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; at least 3 rounds, then until the limit in seconds."""
    begin = time.perf_counter()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        if number >= min(3, rounds) and time.perf_counter() - begin > limit:
            break
        for name, step in contestants.items():
            times[name].append(seconds(step, device))
    return times


def quartiles(times: list[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile."""
    if len(times) == 1:
        return times[0], times[0], times[0]
    first, middle, third = statistics.quantiles(times, n=4, method="inclusive")
    return first, middle, third


def ceilings(device: str, size: int) -> dict[str, float]:
    """This machine's own limits, measured now: a large matrix product in each dtype and a large copy."""
    limits = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        torch.mm(a, b)
        product = statistics.median(seconds(lambda a=a, b=b: torch.mm(a, b), device) for _ in range(5))
        limits[f"{str(dtype).removeprefix('torch.')}_gflops"] = 2 * size**3 / product / 1e9
    source = torch.ones(16 * size * size, device=device)
    target = torch.zeros_like(source)
    copy = statistics.median(seconds(lambda: target.copy_(source), device) for _ in range(7))
    return {**limits, "copy_gbytes": 2 * source.nbytes / copy / 1e9}


def megabytes_beyond(step: Step, device: str) -> float:
    """The peak of memory during one call, beyond what was held before."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _status_megabytes("VmRSS")
    step()
    return max(0.0, _status_megabytes("VmHWM") - before)


def _status_megabytes(name: str) -> float:
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else float("nan")
