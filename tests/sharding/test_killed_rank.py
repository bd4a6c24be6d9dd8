"""A process that is killed, or stops answering, in the middle of a step."""

import signal
import time
from pathlib import Path

import processes
import pytest

import torchbank as tb

RANKS, STEPS, SAVE_EVERY = 3, 6, 4
# Seconds that ranks take to end on a busy machine once they know.
BUSY = 60
CAPACITY, A_STEP = 64, 4 * RANKS


# Told at once by a connection that is closed, and after the timeout by one that is silent.
@pytest.mark.parametrize(("how", "timeout"), [(signal.SIGKILL, 40), (signal.SIGSTOP, 8)], ids=["killed", "stopped"])
def test_killed_rank__ends_the_others_and_the_checkpoint_loads(tmp_path, how, timeout):
    script = Path(__file__).with_name("pushing_rank.py")
    started = processes.start_ranks(RANKS, script, str(tmp_path), str(SAVE_EVERY), str(timeout))
    try:
        for _ in range(STEPS):
            assert started[1].stdout.readline() == "step\n"
        started[1].send_signal(how)
        begin = time.monotonic()
        errors = [started[rank].communicate(timeout=timeout + BUSY)[1] for rank in (0, 2)]
        assert time.monotonic() - begin < timeout + BUSY
    finally:
        processes.end(started)
    for error in errors:
        assert "BankStateError: the ranks could not exchange rows" in error
        assert "one of them has ended" in error
    last = max(int(folder.name) for folder in tmp_path.iterdir() if (folder / ".metadata").is_file())
    assert last >= STEPS // SAVE_EVERY * SAVE_EVERY
    for kind in (tb.shard, tb.replicate):
        loaded = kind(tb.MemoryBank(CAPACITY, 4))
        tb.sharding.load_checkpoint(loaded, tmp_path / str(last))
        assert loaded.total_pushed == last * A_STEP
        assert loaded.step_range() == [max(0, last * A_STEP - CAPACITY) // A_STEP, last - 1]
