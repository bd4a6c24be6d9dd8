"""All cases over 2, 3 and 4 real processes."""

import pytest
from processes import RANKS

CASES = {
    "shared_cases": (2, 3),
    "training_cases": RANKS,
    "evaluation_cases": RANKS,
    "drift_cases": RANKS,
    "method_cases": (2,),
    "checkpoint_cases": (4,),
}


# Of one number of ranks all together: another number is another process group.
QUESTIONS = [(ranks, cases) for ranks in RANKS for cases, tried in CASES.items() if ranks in tried]


@pytest.mark.parametrize(("ranks", "cases"), QUESTIONS)
def test_over_ranks__as_one_process(pool, ranks, cases):
    assert min(pool.ask(ranks, "processes", "run_cases", cases)) > 0
