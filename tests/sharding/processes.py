"""Real processes with gloo: a script of cases runs once on all ranks, and each case is a test.

A script defines functions ``case_*(rank, ranks)`` and ends with ``processes.run_cases(globals())``.
"""

import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import torch
from torch import distributed

import torchbank

ENDED = "did not get to it: another rank had failed before"
TIMEOUT = datetime.timedelta(seconds=40)


def cases_of(script):
    """Found without importing it: its imports are those of its own processes."""
    return re.findall(r"^def (case_\w+)", Path(script).read_text(), re.MULTILINE)


def start_ranks(script, ranks, *words):
    """Processes as torchrun would start them, but for the rendezvous."""
    meeting = tempfile.mktemp()
    source, tests = Path(torchbank.__file__).parents[1], Path(__file__).parents[1]
    folders = [source, tests, tests.parent, *(tests / room for room in ("banks", "methods", "sharding"))]
    path = os.pathsep.join(map(str, folders))
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(ranks), "MEETING": meeting, "PYTHONPATH": path}
    return [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(script), *words],
            env={**shared, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]


def results_of(script, ranks):
    """What went wrong in each case, by its name; the first complaint of any rank."""
    started = start_ranks(script, ranks)
    try:
        outputs = [process.communicate(timeout=200) for process in started]
    finally:
        for process in started:
            process.kill()
    results = {}
    for rank, (lines, errors) in enumerate(outputs):
        for line in lines.splitlines():
            name, complaint = json.loads(line)
            if complaint is not None:
                # What a rank says once another one has ended is not the cause.
                place = "connection" if "could not exchange rows" in complaint else "cause"
                results.setdefault(name, {})[place, rank] = complaint
            else:
                results.setdefault(name, {})
        if errors.strip():
            results.setdefault("stderr", {})["cause", rank] = errors
    return results


def complaint_of(results, name):
    found = results.get(name)
    if found is None:
        return f"{ENDED}\n{results.get('stderr', '')}"
    return "\n".join(f"rank {rank}: {text}" for (_, rank), text in sorted(found.items()))


def join():
    """The group of a process that `start_ranks` started."""
    torch.set_num_threads(1)
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    place = f"file://{os.environ['MEETING']}"
    distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=ranks, timeout=TIMEOUT)
    return rank, ranks


def tell(name, complaint):
    sys.stdout.write(json.dumps([name, complaint]) + "\n")
    sys.stdout.flush()


def run_cases(space):
    rank, ranks = join()
    for name in [name for name in space if name.startswith("case_")]:
        try:
            space[name](rank, ranks)
            tell(name, None)
        except BaseException:  # noqa: BLE001 - reported, and the process ends
            tell(name, traceback.format_exc())
            # The others are in the middle of something: ended, they notice at once.
            os._exit(0)
    distributed.barrier()
    distributed.destroy_process_group()
