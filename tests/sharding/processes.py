"""Real processes with gloo, which run the cases of some modules together.

A module of cases defines functions ``case_*(rank, ranks)``, which all ranks call in the order of the module.
Run as a script this file is one of the processes: ``processes.py MODULE ...``.
"""

import datetime
import importlib
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import torch
from torch import distributed

import torchbank

TIMEOUT = datetime.timedelta(seconds=40)
DONE = "all cases done"


def start_ranks(ranks, script, *words):
    """Processes as torchrun would start them, but for the rendezvous."""
    tests = Path(__file__).parents[1]
    folders = [Path(torchbank.__file__).parents[1], tests.parent, tests]
    folders += [tests / room for room in ("banks", "methods", "sharding")]
    shared = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "WORLD_SIZE": str(ranks),
        "MEETING": str(Path(tempfile.mkdtemp()) / "meeting"),
    }
    command = [sys.executable, "-W", "error", str(script), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen(command, env={**shared, "RANK": str(rank)}, **pipes) for rank in range(ranks)]


def end(started):
    for process in started:
        process.kill()
        process.communicate()


def complaints(ranks, modules):
    """What went wrong: the causes first, then what the other ranks say of the one that had ended."""
    started = start_ranks(ranks, __file__, *modules)
    try:
        outputs = [process.communicate(timeout=250) for process in started]
    finally:
        end(started)
    failed = [f"rank {rank}: {errors}" for rank, (said, errors) in enumerate(outputs) if said.strip() != DONE]
    return "\n".join(sorted(failed, key=lambda text: "could not exchange rows" in text))


def join():
    """The group of a process that `start_ranks` started."""
    torch.set_num_threads(1)
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    place = f"file://{os.environ['MEETING']}"
    distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=ranks, timeout=TIMEOUT)
    return rank, ranks


def say(word):
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def run_cases(modules):
    rank, ranks = join()
    spaces = [vars(importlib.import_module(name)) for name in modules]
    for case in [value for space in spaces for name, value in space.items() if name.startswith("case_")]:
        try:
            case(rank, ranks)
        except BaseException:  # noqa: BLE001 - told, and the process ends
            sys.stderr.write(f"{case.__name__}\n{traceback.format_exc()}")
            sys.stderr.flush()
            # The others are in the middle of something: ended, they notice at once.
            os._exit(1)
    distributed.barrier()
    distributed.destroy_process_group()
    say(DONE)


if __name__ == "__main__":
    run_cases(sys.argv[1:])
