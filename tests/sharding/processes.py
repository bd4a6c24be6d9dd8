"""Real processes with gloo, started once and asked many times: importing torch costs more than most questions.

The first few processes of a `Pool` form a group and answer together: they call one function of a module,
``function(rank, ranks, *given)``, whose answer is what JSON can hold. A module of cases defines functions
``case_*(rank, ranks)``, of which `run_cases` calls all. Run as a script this file is one of the processes.
"""

import datetime
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import torch
from torch import distributed

import torchbank

# How many form a group.
RANKS = (2, 3, 4)
TIMEOUT = datetime.timedelta(seconds=40)


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
        "MEETING": new_meeting(),
    }
    command = [sys.executable, "-W", "error", str(script), *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen(command, env={**shared, "RANK": str(rank)}, **pipes) for rank in range(ranks)]


def new_meeting():
    """A file by which the ranks of one group find each other."""
    return str(Path(tempfile.mkdtemp()) / "meeting")


def end(started):
    for process in started:
        process.kill()
        process.communicate()


class Pool:
    """Some processes that wait for questions; after a failure they are started anew by the next one."""

    def __init__(self, most):
        self.most, self.started, self.group = most, [], None

    def ask(self, ranks, module, function, *given):
        """The answer of each of the first ranks.

        Raises:
            AssertionError: One of them failed: what went wrong, the causes first, then what the other ranks say of the
                one that had ended.
        """
        if not self.started:
            self.started, self.group = start_ranks(self.most, __file__), None
        if self.group is None or self.group["ranks"] != ranks:
            self.group = {"ranks": ranks, "meeting": new_meeting()}
        asked = self.started[:ranks]
        for process in asked:
            process.stdin.write(json.dumps({**self.group, "call": [module, function, given]}) + "\n")
            process.stdin.flush()
        answers = [process.stdout.readline() for process in asked]
        if all(answers):
            return [json.loads(answer) for answer in answers]
        failed = [process for process, answer in zip(asked, answers, strict=True) if not answer]
        errors = [f"rank {asked.index(process)}: {process.communicate()[1]}" for process in failed]
        self.close()
        raise AssertionError("\n".join(sorted(errors, key=lambda text: "could not exchange rows" in text)))

    def close(self):
        end(self.started)
        self.started = []


def join(rank, ranks, meeting):
    """Meet the other ranks; a group of before is left."""
    torch.set_num_threads(1)
    if distributed.is_initialized():
        distributed.destroy_process_group()
    place = f"file://{meeting}"
    distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=ranks, timeout=TIMEOUT)


def say(word):
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def run_cases(rank, ranks, *modules):
    """Call all cases of some modules, in the order of each."""
    spaces = [vars(importlib.import_module(name)) for name in modules]
    cases = [value for space in spaces for name, value in space.items() if name.startswith("case_")]
    for case in cases:
        case(rank, ranks)
    distributed.barrier()
    return len(cases)


def serve():
    """Answer one question a line until there are no more."""
    rank, met = int(os.environ["RANK"]), None
    for line in sys.stdin:
        question = json.loads(line)
        module, function, given = question["call"]
        try:
            if question["meeting"] != met:
                met = question["meeting"]
                join(rank, question["ranks"], met)
            answer = getattr(importlib.import_module(module), function)(rank, question["ranks"], *given)
        except BaseException:  # noqa: BLE001 - told, and the process ends
            sys.stderr.write(traceback.format_exc())
            sys.stderr.flush()
            # The others are in the middle of something: ended, they notice at once.
            os._exit(1)
        say(json.dumps(answer))


if __name__ == "__main__":
    serve()
