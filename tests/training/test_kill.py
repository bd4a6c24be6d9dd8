"""kill -9 of a real process, in training and in the middle of a checkpoint, then resumed to the very same end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_run
from tiny_run import LONGER, assert_same_run, train

from torchbank.training import RunFolder


def _kill_when(due: Callable[[], bool], folder: Path, mode: str) -> None:
    command = [sys.executable, tiny_run.__file__, str(folder), "longer", mode]
    with subprocess.Popen(command, env={**os.environ, "PYTHONWARNINGS": "error"}) as process:
        while not due() and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


# Plain: to check a list, beartype picks an item with Python's random stream, which a checkpoint holds.
@pytest.mark.plain
def test_kill__in_training_and_in_a_checkpoint_then_resumed(tmp_path):
    folder = RunFolder(tmp_path / "killed")

    def in_training() -> bool:
        return folder.metrics.is_file() and folder.metrics.read_bytes().count(b"\n") > 4

    _kill_when(in_training, folder.path, "new")
    assert not folder.summary.exists()
    # A stale folder of a checkpoint cut short goes away with the next one: wait for that, then for the next.
    lines = folder.metrics.read_bytes()
    being_written = folder.checkpoint.with_name("checkpoint.new")

    def in_checkpoint() -> bool:
        return folder.metrics.read_bytes() != lines and being_written.exists()

    _kill_when(in_checkpoint, folder.path, "resume")
    assert not folder.summary.exists()

    train(folder.path, LONGER, resume=True)
    train(tmp_path / "whole", LONGER)
    assert_same_run(folder, RunFolder(tmp_path / "whole"))
