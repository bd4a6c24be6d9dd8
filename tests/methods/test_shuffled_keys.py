"""Keys shuffled between two real processes with gloo."""

import subprocess
import sys

import shuffling_rank


def test_two_ranks__each_gets_its_own_keys_with_the_statistics_of_others(tmp_path):
    address = f"file://{tmp_path / 'rendezvous'}"
    ranks = [
        subprocess.Popen([sys.executable, shuffling_rank.__file__, str(rank), "2", address], stderr=subprocess.PIPE)
        for rank in (0, 1)
    ]
    errors = [rank.communicate()[1].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(errors)
