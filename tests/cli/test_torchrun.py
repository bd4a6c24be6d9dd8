"""Runs of two processes, as torchrun and accelerate start them."""

import json
import os
import subprocess
import sys

import pytest

import torchbank as tb
from torchbank.cli._config import RunConfig
from torchbank.cli._demo import _shared_out
from torchbank.errors import BankValueError
from torchbank.training import RunFolder

# After "--" torchrun leaves --run to torchbank; before, it would take it for --run-path.
TORCHRUN = "torch.distributed.run --standalone --nproc-per-node 2 -m --"
# accelerate knows processes of a CPU by mpirun only; asked for several GPUs it does what torchrun does.
ACCELERATE = "accelerate.commands.launch --multi_gpu --num_machines 1 --mixed_precision no --dynamo_backend no"
TINY = "--data folder --image-size 12 --steps 4 --classes-per-batch 4 --dim 8 --start-step 2 --log-every 1"


def launched(launcher, *words):
    """What a command of two processes says on stdout."""
    command = [sys.executable, "-m", *launcher.split(), "torchbank", *map(str, words), *TINY.split(), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_whole_run(folder):
    steps = [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines() if "train/loss" in line]
    assert steps == [1, 2, 3, 4]
    summary = folder.read_summary()
    assert (summary["machine"]["processes"], summary["batch_size"]) == (2, 16)
    return summary


def test_torchrun__one_process_speaks_and_writes(photos, tmp_path):
    said = launched(TORCHRUN, "train", "xbm", "--root", photos, "--run", tmp_path / "run", "--bank-mode", "sharded")
    assert said.count("MAP@R") == 1
    folder = RunFolder(tmp_path / "run")
    summary = assert_whole_run(folder)
    assert len(tb.load(folder.bank)) == summary["bank"]["rows"] > 0


def test_accelerate_launch__compares_over_two_processes(photos, tmp_path):
    launcher = f"{ACCELERATE} --num_processes 2 --main_process_port 0 -m"
    said = launched(launcher, "compare", "xbm", "--root", photos, "--run", tmp_path / "runs", "--seeds", "0")
    assert said.count("batch 16: memory adds") == 1
    for memory in ("with", "without"):
        assert_whole_run(RunFolder(tmp_path / "runs" / f"batch16-{memory}-seed0"))
    groups = json.loads((tmp_path / "runs" / "comparison.json").read_text())["groups"]
    assert [group["batch_size"] for group in groups] == [16, 16]


def test_demo__processes_share_its_batch():
    config = RunConfig.default("xbm")
    for processes in (1, 2, 4, 8):
        assert processes * _shared_out(config, processes).training.batch_size == config.training.batch_size
    with pytest.raises(BankValueError, match="start 1, 2, 4 or 8"):
        _shared_out(config, 3)
