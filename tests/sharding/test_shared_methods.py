"""Methods over two real processes; the cases are in ``method_cases.py``."""

from pathlib import Path

import processes
import pytest

SCRIPT = Path(__file__).with_name("method_cases.py")


@pytest.fixture(scope="module")
def results():
    return processes.results_of(SCRIPT, 2)


@pytest.mark.parametrize("case", processes.cases_of(SCRIPT))
def test_shared_methods(results, case):
    assert processes.complaint_of(results, case) == ""
