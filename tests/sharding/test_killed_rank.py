"""A process that is killed between two pushes."""

import signal
import time
from pathlib import Path

import processes

import torchbank as tb


def test_killed_rank__ends_the_others_and_the_checkpoint_loads(tmp_path):
    started = processes.start_ranks(3, Path(__file__).with_name("pushing_rank.py"), str(tmp_path))
    try:
        for _ in range(5):
            assert started[1].stdout.readline() == "step\n"
        started[1].send_signal(signal.SIGKILL)
        begin = time.monotonic()
        errors = [started[rank].communicate(timeout=processes.TIMEOUT.seconds)[1] for rank in (0, 2)]
        assert time.monotonic() - begin < processes.TIMEOUT.seconds
    finally:
        processes.end(started)
    for error in errors:
        assert "BankStateError: the ranks could not exchange rows" in error
        assert "one of them has ended" in error
    loaded = tb.MemoryBank(64, 4)
    tb.sharding.load_checkpoint(loaded, tmp_path)
    assert len(loaded) == 12
