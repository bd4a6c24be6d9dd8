"""The ring against a deque."""

from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
import torch
from bank_cases import FIELDS, MACHINE, assert_same_state, fields_of, push_as_on_device, rows_of
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import torchbank as tb


class RingAgainstDeque(RuleBasedStateMachine):
    """Rows are numbered as they are pushed; the oracle holds (number, step) of the last `capacity` of them."""

    @initialize(capacity=st.integers(1, 7))
    def start(self, capacity):
        self.bank = self.empty_bank(capacity)
        self.oracle = deque(maxlen=capacity)
        # Of each slot the row number, stamp and generation; and how many rows came since the last resize.
        self.slots = [None] * capacity
        self.generations = [0] * capacity
        self.here = 0
        self.total = self.pushes = self.clock = self.rejected = 0

    @staticmethod
    def empty_bank(capacity):
        return tb.MemoryBank(capacity, 2, fields=FIELDS, metric="dot")

    @rule(batch=st.integers(0, 17), step=st.none() | st.integers(-5, 1000))
    def push(self, batch, step):
        numbers = list(range(self.total, self.total + batch))
        given = self.bank.push(rows_of(numbers), step=step, **fields_of(numbers))
        self.record(numbers, step, given)

    @rule(good=st.lists(st.booleans(), max_size=17), step=st.none() | st.integers(0, 1000))
    def push_on_device(self, good, step):
        numbers = torch.full((len(good),), -1)
        numbers[torch.tensor(good, dtype=torch.bool)] = torch.arange(self.total, self.total + sum(good))
        embeddings = rows_of(numbers)
        embeddings[numbers < 0, 1] = torch.nan
        given = push_as_on_device(self.bank, embeddings, step=step, **fields_of(numbers))
        assert (given[numbers < 0] == -1).all()
        self.rejected += len(good) - sum(good)
        self.record(numbers[numbers >= 0].tolist(), step, given[numbers >= 0])

    def record(self, numbers, step, given):
        step = self.pushes if step is None else step
        expected = []
        for position, number in enumerate(numbers):
            if position < len(numbers) - len(self.slots):
                expected.append(-1)
            else:
                slot = (self.here + position) % len(self.slots)
                self.slots[slot] = (number, step)
                self.generations[slot] += 1
                expected.append(slot)
            self.oracle.append((number, step))
        assert given.tolist() == expected
        self.here += len(numbers)
        self.total += len(numbers)
        self.pushes += 1
        self.clock = step

    @rule()
    def through_a_state_dict(self):
        bank = self.empty_bank(self.bank.capacity)
        bank.load_state_dict(self.bank.state_dict())
        assert_same_state(bank, self.bank)
        self.bank = bank

    @rule()
    def through_a_file(self):
        with TemporaryDirectory() as folder:
            self.bank.save(Path(folder, "bank"))
            bank = tb.load(Path(folder, "bank"))
        assert_same_state(bank, self.bank)
        self.bank = bank

    @rule(capacity=st.integers(1, 9))
    def resize(self, capacity):
        bank = self.empty_bank(capacity)
        if capacity == self.bank.capacity:
            return
        with pytest.warns(UserWarning, match=f"capacity {self.bank.capacity} into capacity {capacity}"):
            bank.load_state_dict(self.bank.state_dict())
        generation = {row: count for row, count in zip(self.slots, self.generations, strict=True) if row}
        self.bank = bank
        self.oracle = deque(self.oracle, maxlen=capacity)
        self.here = len(self.oracle)
        empty = [None] * (capacity - self.here)
        self.slots = [*self.oracle, *empty]
        self.generations = [generation.get(row, 0) for row in self.slots]

    @invariant()
    def agrees(self):
        bank, count = self.bank, len(self.oracle)
        numbers, steps = [list(column) for column in zip(*self.oracle, strict=True)] or [[], []]
        ordered = bank.ordered()
        assert torch.equal(ordered.embeddings, rows_of(numbers))
        assert torch.equal(ordered.fields["label"], fields_of(numbers)["label"])
        assert torch.equal(ordered.fields["box"], fields_of(numbers)["box"])
        assert ordered.steps.tolist() == steps
        assert ordered.valid.all()
        view = bank.view()
        in_slots = self.slots[:count]
        assert view.fields["label"].tolist() == [10 * number for number, _ in in_slots]
        assert view.embeddings.untyped_storage().data_ptr() == bank.embeddings.data_ptr()
        assert bank.generations.tolist() == self.generations
        assert bank.age().tolist() == [self.clock - step for _, step in in_slots]
        assert (len(bank), bank.is_full) == (count, count == bank.capacity)
        assert (bank.total_pushed, int(bank.pushes)) == (self.total, self.pushes)
        assert (int(bank.clock), int(bank.rejected)) == (self.clock, self.rejected)


TestRing = RingAgainstDeque.TestCase
TestRing.settings = MACHINE


def test_ring__ten_million_rows_in_odd_batches_keep_the_last():
    capacity, total = 10_007, 10_000_000
    bank = tb.MemoryBank(capacity, 1, fields={"number": torch.int64}, metric="dot")
    sizes = [4099, 1, 65_537, 10_007, 20_011, 127, 0, 9_999]
    pushed = 0
    while pushed < total:
        batch = min(sizes[int(bank.pushes) % len(sizes)], total - pushed)
        numbers = torch.arange(pushed, pushed + batch)
        bank.push(numbers[:, None].float(), number=numbers)
        pushed += batch
    last = torch.arange(total - capacity, total)
    ordered = bank.ordered()
    assert torch.equal(ordered.fields["number"], last)
    assert torch.equal(ordered.embeddings, last[:, None].float())
    # Row t lies in slot t % capacity.
    assert torch.equal(bank.view().fields["number"] % capacity, torch.arange(capacity))


@pytest.mark.parametrize("metric", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("given", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_ring__stores_the_cast_rows(metric, dtype, given):
    embeddings = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).to(given)
    bank = tb.MemoryBank(8, 8, metric=metric, dtype=dtype)
    bank.push(embeddings)
    expected = torch.nn.functional.normalize(embeddings.double(), dim=1) if metric == "cosine" else embeddings
    assert bank.embeddings.dtype == dtype
    torch.testing.assert_close(bank.view().embeddings, expected.to(dtype))
    if metric != "cosine":
        assert torch.equal(bank.view().embeddings, embeddings.to(dtype))


def test_ring__device_code_writes_the_same_bits():
    generator = torch.Generator().manual_seed(0)
    for metric in ("cosine", "dot"):
        for dtype in (torch.float32, torch.bfloat16):
            banks = [tb.MemoryBank(11, 8, fields=FIELDS, metric=metric, dtype=dtype) for _ in range(2)]
            for batch in (3, 0, 7, 1, 30, 11, 12):
                embeddings = torch.randn(batch, 8, generator=generator)
                columns = fields_of(range(batch))
                slots = banks[0].push(embeddings, **columns)
                assert torch.equal(slots, push_as_on_device(banks[1], embeddings, **columns))
                assert_same_state(*banks)


def test_ring__label_zero_and_gradients_are_nothing_special():
    # Two defects of published banks: fullness told by a label, and a graph kept alive by the memory.
    bank = tb.MemoryBank(2, 2, fields={"label": torch.int64}, metric="dot")
    embeddings = torch.ones(2, 2, requires_grad=True)
    bank.push(embeddings * 2, label=torch.zeros(2, dtype=torch.int64))
    assert bank.is_full
    assert not bank.embeddings.requires_grad
    assert bank.ordered().fields["label"].tolist() == [0, 0]
    embeddings.detach().zero_()
    assert bank.view().embeddings.tolist() == [[2, 2], [2, 2]]


def test_ring__steady_state_ages():
    # capacity 10, batches of 4: the oldest rows are ceil(10 / 4) - 1 pushes old.
    bank = tb.MemoryBank(10, 1, metric="dot")
    for _ in range(9):
        bank.push(torch.ones(4, 1))
    assert sorted(bank.age().tolist()) == [0] * 4 + [1] * 4 + [2] * 2


def test_ring__row_numbers_beyond_32_bits():
    bank = tb.MemoryBank(7, 2, metric="dot")
    start = 5_000_000_000
    bank.total.fill_(start)
    assert bank.push(rows_of([1, 2, 3])).tolist() == [(start + j) % 7 for j in range(3)]
    assert push_as_on_device(bank, rows_of([4])).tolist() == [(start + 3) % 7]
    assert bank.total_pushed == start + 4
