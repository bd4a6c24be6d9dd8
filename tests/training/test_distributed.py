"""Two real processes with gloo: one model, each its own batches and part of the checkpoint, and a bank."""

import os
import socket
import subprocess
import sys

import pytest
import tiny_run
import torch

import torchbank as tb
from torchbank.training import RunFolder, load_checkpoint, read_metrics


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("bank_mode", ["replicated", "sharded", "local"])
def test_two_processes__learn_one_model_and_resume(tmp_path, bank_mode):
    folder = RunFolder(tmp_path / "run")
    # What torchrun sets.
    shared = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(_free_port()),
    }
    command = [sys.executable, tiny_run.__file__, str(folder.path), "tiny", "new", "resume"]
    shared["BANK_MODE"] = bank_mode
    processes = [
        subprocess.Popen(command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE)
        for rank in (0, 1)
    ]
    errors = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)

    first, second = (load_checkpoint(folder.checkpoint, rank=rank, ranks=2) for rank in (0, 1))
    learned = dict(tiny_run.tiny_method().encoder.named_parameters())
    for name in learned:
        assert torch.equal(first["method"][f"encoder.{name}"], second["method"][f"encoder.{name}"]), name
    remembered = [name for name in first["method"] if name.startswith("bank.") and name.endswith("embeddings")]
    assert remembered
    for name in remembered:
        equal = bank_mode == "replicated" and name == "bank.embeddings"
        assert torch.equal(first["method"][name], second["method"][name]) == equal, name
    rows = 48  # all that the bank holds
    assert len(tb.load(folder.bank)) == rows
    assert len(first["method"]["bank.steps"]) == (rows // 2 if bank_mode == "sharded" else rows)

    summary = folder.read_summary()
    assert (summary["machine"]["processes"], summary["batch_size"]) == (2, 16)
    steps = [line["step"] for line in read_metrics(folder.metrics) if "train/loss" in line]
    assert steps == list(range(3, 25, 3))
