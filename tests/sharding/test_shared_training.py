"""Losses, DDP and traffic over real processes; the cases are in ``training_cases.py``."""

from pathlib import Path

import processes
import pytest

SCRIPT = Path(__file__).with_name("training_cases.py")


@pytest.fixture(scope="module", params=[2, 4])
def results(request):
    return processes.results_of(SCRIPT, request.param)


@pytest.mark.parametrize("case", processes.cases_of(SCRIPT))
def test_shared_training(results, case):
    assert processes.complaint_of(results, case) == ""
