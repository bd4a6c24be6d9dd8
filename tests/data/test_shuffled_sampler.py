"""The shuffled sampler: what every pass holds, and where the stream resumes."""

from itertools import islice

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from torchbank.data import ShuffledSampler
from torchbank.errors import BankStateError, BankValueError


@given(
    size=st.integers(1, 60),
    batch_size=st.integers(1, 70),
    seed=st.integers(0, 2**40),
    last=st.sampled_from(["keep", "drop"]),
    ranks=st.integers(1, 3),
)
def test_shuffled_sampler__every_pass_brings_every_example_once(size, batch_size, seed, last, ranks):
    assume(last == "keep" or batch_size <= size)
    samplers = [
        ShuffledSampler(size, batch_size=batch_size, seed=seed, last=last, rank=rank, ranks=ranks)
        for rank in range(ranks)
    ]
    passes = 3
    turns = passes * samplers[0].batches_per_pass
    batches = [samplers[i % ranks].batch(i // ranks) for i in range(turns)]
    for start in range(0, turns, turns // passes):
        of_pass = batches[start : start + turns // passes]
        seen = [row for batch in of_pass for row in batch]
        assert len(seen) == len(set(seen)) == (size if last == "keep" else size // batch_size * batch_size)
        assert set(seen) <= set(range(size))
        assert all(len(batch) == batch_size for batch in of_pass[:-1])


def test_shuffled_sampler__orders_differ_by_pass_and_seed():
    orders = {
        tuple(ShuffledSampler(50, batch_size=50, seed=seed).batch(turn)) for seed in range(4) for turn in range(4)
    }
    assert len(orders) == 16


def test_shuffled_sampler__draws_any_row_at_any_place():
    first = torch.tensor([ShuffledSampler(5, batch_size=2).batch(3 * turn)[0] for turn in range(2_000)])
    # 400 each; binomial with a standard deviation of 18.
    assert (first.bincount(minlength=5) - 400).abs().max() < 80


@given(
    used=st.integers(0, 30),
    ahead=st.integers(0, 5),
    batch_size=st.integers(1, 9),
)
def test_shuffled_sampler__resumes_behind_a_loader_that_reads_ahead(used, ahead, batch_size):
    def fresh():
        return ShuffledSampler(20, batch_size=batch_size, seed=7)

    oracle = list(islice(fresh(), 50))
    sampler, twin = fresh(), fresh()
    list(islice(sampler, used + ahead))
    twin.load_state_dict(sampler.state_dict(next_batch=used))
    assert list(islice(twin, 10)) == oracle[used : used + 10]
    assert sampler.next_batch == used + ahead
    assert list(islice(sampler, 5)) == oracle[used + ahead : used + ahead + 5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed 1, but this sampler has 0"),
        ({"size": 21}, "size 21, but this sampler has 20"),
        ({"batch_size": 3}, "batch_size 3, but this sampler has 4"),
        ({"last": "drop"}, "drops_last 1, but this sampler has 0"),
        ({"ranks": 2, "rank": 1}, "rank 1, but this sampler has 0"),
    ],
)
def test_shuffled_sampler__refuses_the_state_of_another_stream(changes, message):
    arguments = {"size": 20, "batch_size": 4}
    sampler = ShuffledSampler(**arguments)
    with pytest.raises(BankStateError, match=message):
        sampler.load_state_dict(ShuffledSampler(**(arguments | changes)).state_dict())
    assert sampler.next_batch == 0


@pytest.mark.plain
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"seed": -1}, "seed -1"),
        ({"rank": 1}, "rank 1 and ranks 1"),
        ({"last": "pad"}, "last='pad' is unknown; choose one of 'keep', 'drop'"),
        ({"batch_size": 21, "last": "drop"}, "batch_size is 21, but there are 20 examples"),
    ],
)
def test_shuffled_sampler__refuses(changes, message):
    with pytest.raises(BankValueError, match=message):
        ShuffledSampler(**({"size": 20, "batch_size": 4} | changes))
