"""A run of two processes that torchrun starts."""

import json
import os
import subprocess
import sys

import torchbank as tb
from torchbank.training import RunFolder

_TINY = "--data folder --image-size 12 --steps 4 --classes-per-batch 4 --dim 8 --start-step 2 --log-every 1"


def test_torchrun__one_process_speaks_and_writes(photos, tmp_path):
    # After "--" torchrun leaves --run to torchbank; before, it would take it for --run-path.
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    words = ["torchbank", "train", "xbm", "--root", photos, "--run", tmp_path / "run", *_TINY.split()]
    command = [*torchrun, *words, "--bank-mode", "sharded", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("MAP@R") == 1
    folder = RunFolder(tmp_path / "run")
    steps = [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines() if "train/loss" in line]
    assert steps == [1, 2, 3, 4]
    summary = folder.read_summary()
    assert summary["machine"]["processes"] == 2
    assert len(tb.load(folder.bank)) == summary["bank"]["rows"] > 0
