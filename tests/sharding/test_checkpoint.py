"""Checkpoints and files of shared banks over real processes; the cases are in ``checkpoint_cases.py``."""

from pathlib import Path

import processes
import pytest

SCRIPT = Path(__file__).with_name("checkpoint_cases.py")


@pytest.fixture(scope="module")
def results():
    return processes.results_of(SCRIPT, 4)


@pytest.mark.parametrize("case", processes.cases_of(SCRIPT))
def test_checkpoint(results, case):
    assert processes.complaint_of(results, case) == ""
