"""Two real processes with gloo: one model, each its own batches, bank and part of the checkpoint."""

import os
import socket
import subprocess
import sys

import tiny_run
import torch

from torchbank.training import RunFolder, load_checkpoint, read_metrics


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def test_two_processes__learn_one_model_and_resume(tmp_path):
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
        assert not torch.equal(first["method"][name], second["method"][name]), name

    summary = folder.read_summary()
    assert (summary["machine"]["processes"], summary["batch_size"]) == (2, 16)
    steps = [line["step"] for line in read_metrics(folder.metrics) if "train/loss" in line]
    assert steps == list(range(3, 25, 3))
