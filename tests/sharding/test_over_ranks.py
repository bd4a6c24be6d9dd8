"""All cases over 2, 3 and 4 real processes, each started once: importing torch costs more than most cases."""

import processes
import pytest

CASES = {
    2: ("shared_cases", "training_cases", "method_cases"),
    3: ("shared_cases", "training_cases"),
    4: ("checkpoint_cases",),
}


@pytest.mark.parametrize("ranks", CASES)
def test_over_ranks__as_one_process(ranks):
    assert processes.complaints(ranks, CASES[ranks]) == ""
