"""Runs command lines, each in a process of its own, without importing torch for each.

Reads one JSON list of words a line, forks, and lets the child be the command ``torchbank``; answers one JSON
object a line: the exit code and what was written to stdout and stderr.
"""

import importlib
import json
import os
import sys
import tempfile
from typing import NoReturn

from torchbank.cli import main

# What the command imports when it needs it; imported here, each child has it already.
_ON_DEMAND = (
    *("accelerate", "kornia.augmentation", "matplotlib.figure", "rich.table", "torch.utils.tensorboard", "tyro", "av"),
    *(
        f"torchbank.cli._{verb}"
        for verb in ("compare", "demo", "drift", "evaluate", "inspect", "track", "train", "video")
    ),
)


def run(words: list[str]) -> dict:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            _end(main(words))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return {"code": code, "out": texts[0], "err": texts[1]}


def _end(code: int) -> NoReturn:
    """Leave without the second that tidying up torch takes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for module in _ON_DEMAND:
        importlib.import_module(module)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(json.loads(line))) + "\n")
        sys.stdout.flush()
