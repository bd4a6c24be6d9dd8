"""The summary of a finished run: the result, and what a reader needs to trust it."""

import hashlib
import platform
import resource
import sys
from importlib import metadata
from typing import Any

import torch
from torch import nn

from torchbank.data import Split
from torchbank.io import write_json, write_tensors
from torchbank.sharding import ShardedBank
from torchbank.training._clock import StepClock
from torchbank.training._config import TrainingConfig
from torchbank.training._run_folder import RunFolder

_PACKAGES = ("torchbank", "torch", "numpy", "safetensors", "accelerate", "kornia")


def summarize(
    method: nn.Module, config: TrainingConfig, clock: StepClock, *, device: torch.device, ranks: int
) -> dict[str, Any]:
    """What ``summary.json`` says beside the scores and the data.

    Args:
        method: The method after training; its ``bank`` and ``drift`` are described where it has them.
        config: What ran.
        clock: Times of the steps.
        device: Where it ran.
        ranks: On how many processes.

    Returns:
        Nested dictionaries of plain values.
    """
    on_gpu = device.type == "cuda"
    return {
        "steps": config.steps,
        "seed": config.seed,
        "batch_size": config.batch_size * config.accumulate * ranks,
        "parameters": sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad),
        "bank": _bank_facts(method),
        "drift": _by_age(method, "by_age"),
        "fidelity": _by_age(method, "fidelity_by_age"),
        "timing": {
            "milliseconds_per_step": round(clock.milliseconds_per_step(), 3),
            "steps_per_second": round(clock.steps_per_second(), 3),
            "seconds_in_steps": round(clock.seconds, 3),
        },
        "memory": {
            "peak_process_bytes": peak_process_bytes(),
            "peak_device_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else None,
        },
        "machine": {
            "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
            "platform": platform.platform(),
            "threads": torch.get_num_threads(),
            "processes": ranks,
        },
        "versions": {"python": platform.python_version(), **_package_versions()},
    }


def describe_data(split: Split) -> dict[str, Any]:
    """What ``summary.json`` says of the data: name, size, classes and fingerprint of each part."""
    return {
        part: {
            "name": examples.name,
            "images": len(examples),
            "classes": len(examples.labels.unique()),
            "fingerprint": examples.fingerprint,
        }
        for part, examples in (("train", split.train), ("test", split.test))
    }


def write_results(folder: RunFolder, method: Any, summary: dict[str, Any], *, is_main: bool = True) -> None:
    """Write the encoder, the bank and, last, the summary: where there is a summary, the run is whole.

    Called by all processes: the rows of a sharded bank come from all of them.

    Args:
        folder: The run folder.
        method: A method with an ``encoder`` and a ``bank``, which may be None.
        summary: The content of ``summary.json``.
        is_main: Whether this process is the one that writes.
    """
    if not is_main:
        if isinstance(method.bank, ShardedBank):
            method.bank.save(folder.bank)
        return
    images = summary["data"]["train"]["fingerprint"]
    write_tensors(folder.model, method.encoder.state_dict(), {"steps": summary["steps"], "data": images})
    if method.bank is not None:
        weights = hashlib.sha256(folder.model.read_bytes()).hexdigest()
        method.bank.save(folder.bank, encoder=f"sha256:{weights}", data=f"sha256:{images}")
    write_json(folder.summary, summary)


def peak_process_bytes() -> int:
    """The largest resident memory that this process has had, all of its runs together."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _bank_facts(method: nn.Module) -> dict[str, Any] | None:
    bank = getattr(method, "bank", None)
    if bank is None:
        return None
    return {"rows": len(bank), "capacity": bank.capacity, "bytes": bank.nbytes}


def _by_age(method: nn.Module, what: str) -> dict[str, list[float]] | None:
    """What the method's ``drift`` says by age, column by column."""
    table = getattr(getattr(method, "drift", None), what, None)
    return None if table is None else {name: values.tolist() for name, values in table()._asdict().items()}


def _package_versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
