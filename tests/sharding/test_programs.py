"""Thousands of random steps over 2, 3 and 4 processes, beside one process that is given everything."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import RANKS

# As `shared_cases` and `programs` know them.
WAYS = ("replicated", "sharded")
KINDS = ("ring", "keyed", "last", "once", "reservoir")
WORDS = ("push",) * 5 + ("update", "read", "gather")


def programs(ranks, way):
    # Mostly small batches, none too, and now and then one that is larger than the bank.
    size = st.one_of(st.integers(0, 5), st.integers(0, 5), st.integers(0, 40))
    step = st.tuples(st.sampled_from(WORDS), st.lists(size, min_size=ranks, max_size=ranks), st.integers(0, 9_999))
    return st.fixed_dictionaries(
        {
            "way": st.just(way),
            "kind": st.sampled_from(KINDS),
            "capacity": st.integers(ranks, 25),
            "steps": st.lists(step, min_size=20, max_size=60),
        }
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ranks", RANKS)
def test_program__leaves_the_bank_of_one_process(pool, ranks, way):
    steps = 0

    @settings(max_examples=12)
    @given(programs(ranks, way))
    def run(program):
        nonlocal steps
        steps += len(program["steps"])
        assert pool.ask(ranks, "programs", "run", program) == [""] * ranks

    run()
    assert steps > 300
