"""The reservoir against a list, and against uniformity."""

from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
import torch
from bank_cases import FIELDS, MACHINE, assert_same_state, fields_of, push_as_on_device, rows_of
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import torchbank as tb
from torchbank.banks._reservoir import counter_hash
from torchbank.errors import BankTypeError, BankValueError

WORD = (1 << 64) - 1


def splitmix64(word):
    """In Python integers, as published."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & WORD
    return word ^ (word >> 31)


def python_hash(seed, number):
    return splitmix64((splitmix64(seed) + (number + 1) * 0x9E3779B97F4A7C15) & WORD) & (2**63 - 1)


class ReservoirAgainstList(RuleBasedStateMachine):
    """Algorithm R, one row at a time, on a list of (number, step)."""

    @initialize(capacity=st.integers(1, 8), seed=st.integers(0, 2**63 - 1))
    def start(self, capacity, seed):
        self.seed = seed
        self.bank = tb.ReservoirMemoryBank(capacity, 2, seed=seed, fields=FIELDS, metric="dot")
        self.oracle = []
        self.limit = capacity
        self.total = self.pushes = 0

    @rule(batch=st.integers(0, 30), on_device=st.booleans())
    def push(self, batch, on_device):
        numbers = list(range(self.total, self.total + batch))
        push = push_as_on_device if on_device else tb.ReservoirMemoryBank.push
        given = push(self.bank, rows_of(numbers), **fields_of(numbers))
        taken = {}
        for position, number in enumerate(numbers):
            slot = number if number < self.limit else python_hash(self.seed, number) % (number + 1)
            if slot < self.limit:
                self.oracle[slot : slot + 1] = [(number, self.pushes)]
                taken[slot] = position
        last = {position: slot for slot, position in taken.items()}
        assert given.tolist() == [last.get(position, -1) for position in range(batch)]
        self.total += batch
        self.pushes += 1

    @rule(by_file=st.booleans())
    def move(self, by_file):
        bank = tb.ReservoirMemoryBank(self.bank.capacity, 2, fields=FIELDS, metric="dot")
        if by_file:
            with TemporaryDirectory() as folder:
                self.bank.save(Path(folder, "bank"))
                bank = tb.load(Path(folder, "bank"))
        else:
            bank.load_state_dict(self.bank.state_dict())
        assert_same_state(bank, self.bank)
        self.bank = bank

    @rule(capacity=st.integers(1, 10))
    def resize(self, capacity):
        if capacity == self.bank.capacity:
            return
        bank = tb.ReservoirMemoryBank(capacity, 2, fields=FIELDS, metric="dot")
        with pytest.warns(UserWarning, match="rows are kept"):
            bank.load_state_dict(self.bank.state_dict())
        self.bank = bank
        # Which rows stay is tested for uniformity below; here only that they are rows of the bank.
        view = bank.view()
        kept = [
            (label // 10, step) for label, step in zip(view.fields["label"].tolist(), view.steps.tolist(), strict=True)
        ]
        assert set(kept) <= set(self.oracle)
        assert len(set(kept)) == len(kept) == min(capacity, len(self.oracle))
        self.limit = capacity if self.total == len(self.oracle) else min(capacity, len(self.oracle))
        self.oracle = kept

    @invariant()
    def agrees(self):
        view = self.bank.view()
        numbers, steps = [list(column) for column in zip(*self.oracle, strict=True)] or [[], []]
        assert torch.equal(view.embeddings, rows_of(numbers))
        assert torch.equal(view.fields["label"], fields_of(numbers)["label"])
        assert torch.equal(view.fields["box"], fields_of(numbers)["box"])
        assert view.steps.tolist() == steps
        assert (len(self.bank), self.bank.total_pushed) == (len(self.oracle), self.total)


TestReservoir = ReservoirAgainstList.TestCase
TestReservoir.settings = MACHINE


def test_reservoir__hash_is_splitmix64():
    numbers = [0, 1, 2, 999_999_999_999, 2**62]
    for seed in (0, 1, 2**63 - 1):
        found = counter_hash(torch.tensor(seed), torch.tensor(numbers))
        assert found.tolist() == [python_hash(seed, number) for number in numbers]


def counts_of_kept(capacity, total, trials, keep):
    """How often each row number is in the bank at the end, over many seeds."""
    counts = torch.zeros(total)
    for seed in range(trials):
        bank = tb.ReservoirMemoryBank(capacity, 1, seed=seed, metric="dot")
        bank.push(torch.arange(float(total))[:, None])
        counts[keep(bank).view().embeddings[:, 0].long()] += 1
    return counts


def assert_uniform(counts, kept, trials):
    """Pearson's chi squared with the variance of draws without replacement, beyond 4 standard deviations."""
    total = len(counts)
    probability = kept / total
    statistic = ((counts - trials * probability) ** 2).sum() / (trials * probability * (1 - probability))
    statistic *= (total - 1) / total
    deviation = (2 * (total - 1)) ** 0.5
    assert abs(statistic - (total - 1)) < 4 * deviation, statistic
    assert counts.sum() == trials * kept


def test_reservoir__every_row_is_as_likely():
    assert_uniform(counts_of_kept(20, 100, 400, lambda bank: bank), 20, 400)


def test_reservoir__subsample_is_as_likely():
    def halved(bank):
        smaller = tb.ReservoirMemoryBank(10, 1, metric="dot")
        with pytest.warns(UserWarning, match="20 rows .* 10 rows are kept"):
            smaller.load_state_dict(bank.state_dict())
        return smaller

    assert_uniform(counts_of_kept(20, 60, 150, halved), 10, 150)


def test_reservoir__goes_on_uniformly_after_resizing():
    def moved(bank):
        """Down, more rows, then up, where it must not take more rows than it has."""
        bank.push(torch.arange(40.0, 60.0)[:, None])
        for capacity in (5, 30):
            other = tb.ReservoirMemoryBank(capacity, 1, metric="dot")
            with pytest.warns(UserWarning, match="rows are kept"):
                other.load_state_dict(bank.state_dict())
            bank = other
            bank.push(torch.arange(60.0, 80.0)[:, None] if capacity == 5 else torch.arange(80.0, 90.0)[:, None])
        assert len(bank) == 5
        return bank

    counts = torch.zeros(90)
    trials = 150
    for seed in range(trials):
        bank = tb.ReservoirMemoryBank(10, 1, seed=seed, metric="dot")
        bank.push(torch.arange(40.0)[:, None])
        counts[moved(bank).view().embeddings[:, 0].long()] += 1
    assert_uniform(counts, 5, trials)


def test_reservoir__batch_sizes_do_not_matter():
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(200, 16, generator=generator)
    banks = []
    for sizes in ([200], [1] * 200, [7, 100, 0, 93]):
        bank = tb.ReservoirMemoryBank(37, 16, seed=5, fields={"number": torch.int64})
        for rows, numbers in zip(embeddings.split(sizes), torch.arange(200).split(sizes), strict=True):
            bank.push(rows, step=3, number=numbers)
        banks.append(bank)
    for other in banks[1:]:
        assert torch.equal(banks[0].view().fields["number"], other.view().fields["number"])
        torch.testing.assert_close(banks[0].embeddings, other.embeddings)


def test_reservoir__enlarging_before_it_overflows_is_exact():
    bank = tb.ReservoirMemoryBank(10, 1, seed=4, metric="dot")
    bank.push(torch.arange(8.0)[:, None])
    larger = tb.ReservoirMemoryBank(20, 1, metric="dot")
    with pytest.warns(UserWarning, match="8 rows are kept"):
        larger.load_state_dict(bank.state_dict())
    fresh = tb.ReservoirMemoryBank(20, 1, seed=4, metric="dot")
    fresh.push(torch.arange(8.0)[:, None])
    for one in (larger, fresh):
        one.push(torch.arange(8.0, 200.0)[:, None])
    assert torch.equal(larger.embeddings, fresh.embeddings)


@pytest.mark.plain
def test_reservoir__bad_seeds_are_errors():
    with pytest.raises(BankTypeError, match=r"seed is 0.5; expected an int"):
        tb.ReservoirMemoryBank(5, 2, seed=0.5)
    with pytest.raises(BankValueError, match=r"seed is -1; expected 0 to 2\*\*63 - 1"):
        tb.ReservoirMemoryBank(5, 2, seed=-1)
