"""The keyed bank against a dict."""

from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
import torch
from bank_cases import FIELDS, MACHINE, assert_same_state, fields_of, push_as_on_device, snapshot
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import torchbank as tb
from torchbank.errors import BankTypeError, BankValueError

DIM = 3


def unit(row):
    return row / row.norm()


def embeddings_of(numbers):
    """Rows of different directions, float64 so that the oracle can be exact; exact in float32 too."""
    numbers = torch.as_tensor(numbers, dtype=torch.float64)
    return torch.stack([numbers % 7 - 3, numbers % 5 + 1, numbers % 3 - 1], dim=1)


class KeyedAgainstDict(RuleBasedStateMachine):
    """The oracle holds (embedding in float64, number of the last row, stamp, visits) by key."""

    @initialize(
        capacity=st.integers(1, 9),
        metric=st.sampled_from(["cosine", "dot"]),
        momentum=st.sampled_from([0.0, 0.25, 0.9]),
        duplicates=st.sampled_from(["last", "mean"]),
    )
    def start(self, capacity, metric, momentum, duplicates):
        self.options = {"metric": metric, "momentum": momentum, "duplicates": duplicates, "fields": FIELDS}
        self.bank = tb.KeyedMemoryBank(capacity, DIM, **self.options)
        self.oracle = {}
        self.total = self.pushes = 0

    @rule(data=st.data(), step=st.none() | st.integers(0, 100), on_device=st.booleans())
    def push(self, data, step, on_device):
        keys = data.draw(st.lists(st.integers(0, self.bank.capacity - 1), max_size=12))
        numbers = list(range(self.total, self.total + len(keys)))
        columns = {"keys": torch.tensor(keys, dtype=torch.int64), **fields_of(numbers)}
        push = push_as_on_device if on_device else tb.KeyedMemoryBank.push
        given = push(self.bank, embeddings_of(numbers), step=step, **columns)
        mean = self.options["duplicates"] == "mean"
        last = {key: position for position, key in enumerate(keys)}
        assert given.tolist() == [key if mean or last[key] == at else -1 for at, key in enumerate(keys)]
        for key, position in last.items():
            rows = [embeddings_of([number])[0] for number, other in zip(numbers, keys, strict=True) if other == key]
            self.visit(key, rows, numbers[position], self.pushes if step is None else step)
        self.total += len(keys)
        self.pushes += 1

    def visit(self, key, rows, number, step):
        cosine, momentum = self.options["metric"] == "cosine", self.options["momentum"]
        rows = [unit(row) for row in rows] if cosine else rows
        new = torch.stack(rows).mean(dim=0) if self.options["duplicates"] == "mean" else rows[-1]
        new = unit(new) if cosine else new
        old, _, _, visits = self.oracle.get(key, (new, None, None, 0))
        row = momentum * old + (1 - momentum) * new
        self.oracle[key] = (unit(row) if cosine else row, number, step, visits + 1)

    @rule(capacity=st.integers(1, 9), by_file=st.booleans())
    def move(self, capacity, by_file):
        """To the same capacity by a file or a state dict, to another by a state dict."""
        bank = tb.KeyedMemoryBank(capacity, DIM, **self.options)
        if capacity != self.bank.capacity:
            with pytest.warns(UserWarning, match="rows are kept"):
                bank.load_state_dict(self.bank.state_dict())
            self.oracle = {key: row for key, row in self.oracle.items() if key < capacity}
        elif by_file:
            with TemporaryDirectory() as folder:
                self.bank.save(Path(folder, "bank"))
                bank = tb.load(Path(folder, "bank"))
            assert_same_state(bank, self.bank)
        self.bank = bank if capacity != self.bank.capacity or by_file else self.bank

    @invariant()
    def agrees(self):
        bank, view = self.bank, self.bank.view()
        keys = sorted(self.oracle)
        assert view.valid.nonzero().squeeze(1).tolist() == keys
        assert len(view.valid) == bank.capacity
        assert len(bank) == len(keys)
        assert bank.generations.tolist() == [self.oracle.get(key, (0,))[-1] for key in range(bank.capacity)]
        if keys:
            rows, numbers, steps, _ = zip(*(self.oracle[key] for key in keys), strict=True)
            torch.testing.assert_close(view.embeddings[keys], torch.stack(rows).float(), rtol=1e-4, atol=1e-5)
            assert torch.equal(view.fields["label"][keys], fields_of(numbers)["label"])
            assert torch.equal(view.fields["box"][keys], fields_of(numbers)["box"])
            assert view.steps[keys].tolist() == list(steps)
        assert bank.total_pushed == self.total


TestKeyed = KeyedAgainstDict.TestCase
TestKeyed.settings = MACHINE


def keys_of(*keys):
    return torch.tensor(keys)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_keyed__first_visit_is_stored_as_it_is(metric):
    row = torch.tensor([[0.6, 0.8]])
    bank = tb.KeyedMemoryBank(3, 2, momentum=0.9, duplicates="mean", metric=metric)
    other = tb.MemoryBank(3, 2, metric=metric)
    bank.push(row, keys=keys_of(0))
    other.push(row)
    assert torch.equal(bank.embeddings[0], other.embeddings[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_keyed__mixture_without_direction_keeps_the_new_row(dtype):
    row = torch.nn.functional.normalize(torch.randn(1, 16, generator=torch.Generator().manual_seed(3)), dim=1)
    bank = tb.KeyedMemoryBank(2, 16, momentum=0.5, dtype=dtype)
    bank.push(-row, keys=keys_of(1))
    bank.push(row, keys=keys_of(1))
    assert torch.equal(bank.embeddings[1], row[0].to(dtype))
    both = tb.KeyedMemoryBank(2, 16, duplicates="mean", dtype=dtype)
    both.push(torch.cat([-row, row]), keys=keys_of(0, 0))
    assert torch.equal(both.embeddings[0], row[0].to(dtype))


def test_keyed__dot_mixtures_are_not_normalized():
    bank = tb.KeyedMemoryBank(2, 2, momentum=0.75, metric="dot")
    bank.push(torch.tensor([[4.0, 0.0]]), keys=keys_of(1))
    bank.push(torch.tensor([[0.0, 8.0]]), keys=keys_of(1))
    assert bank.embeddings[1].tolist() == [3.0, 2.0]


def test_keyed__keys_are_the_slots_that_reads_return():
    bank = tb.KeyedMemoryBank(50, 2, fields={"label": torch.int64})
    bank.push(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), keys=keys_of(42, 7), label=keys_of(1, 2))
    found = bank.nearest(torch.tensor([[0.9, 0.1]]), k=3)
    assert found.slots.tolist() == [[42, 7, -1]]
    assert bank.gather(found.slots).fields["label"].tolist() == [[1, 2, 0]]
    # Slots that hold nothing are zero rows, which must not add their exp(0) to the sum.
    lse = bank.attend(torch.tensor([[1.0, 0.0]]), scale=2.0).lse
    torch.testing.assert_close(lse, torch.tensor([[2.0, 0.0]]).logsumexp(dim=1))


def test_keyed__mean_is_deterministic_in_any_order_of_other_keys():
    embeddings = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    keys = torch.arange(200) % 5
    by_key = torch.arange(200).view(40, 5).T.reshape(-1)
    banks = [tb.KeyedMemoryBank(5, 8, duplicates="mean") for _ in range(2)]
    banks[0].push(embeddings, keys=keys)
    banks[1].push(embeddings[by_key], keys=keys[by_key])
    assert torch.equal(banks[0].embeddings, banks[1].embeddings)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        (torch.tensor([0, 5]), BankValueError, r"keys\[1\] is 5; expected 0 to 4"),
        (torch.tensor([-1, 0]), BankValueError, r"keys\[0\] is -1; expected 0 to 4"),
        (
            torch.tensor([3, 3]),
            BankValueError,
            r"keys\[0\] is 3, which the batch holds more than once.*'last' or 'mean'",
        ),
        (torch.tensor([1]), BankValueError, r"keys has shape \(1,\); expected \(2,\)"),
        (torch.tensor([[1, 2]]), BankValueError, r"keys has shape \(1, 2\); expected one axis"),
        (torch.tensor([0.0, 1.0]), BankTypeError, r"keys is torch.float32; expected a tensor of integers"),
        ([0, 1], BankTypeError, r"keys is list; expected a tensor of integers"),
    ],
)
def test_keyed__bad_keys_are_errors_that_change_nothing(keys, error, message):
    bank = tb.KeyedMemoryBank(5, 2)
    bank.push(torch.ones(2, 2), keys=keys_of(3, 4))
    before = snapshot(bank)
    with pytest.raises(error, match=message):
        bank.push(torch.ones(2, 2), keys=keys)
    assert_same_state(bank, before)


@pytest.mark.plain
def test_keyed__bad_options_are_errors():
    with pytest.raises(BankValueError, match=r"momentum is 1.0; expected a number from 0"):
        tb.KeyedMemoryBank(5, 2, momentum=1.0)
    with pytest.raises(BankValueError, match=r"duplicates is 'first'; expected one of 'error', 'last', 'mean'"):
        tb.KeyedMemoryBank(5, 2, duplicates="first")


def test_keyed__narrow_integer_keys_are_keys():
    bank = tb.KeyedMemoryBank(5, 2)
    assert bank.push(torch.ones(2, 2), keys=torch.tensor([1, 4], dtype=torch.uint8)).tolist() == [1, 4]


def test_keyed__options_survive_a_file(tmp_path):
    bank = tb.KeyedMemoryBank(5, 2, momentum=0.25, duplicates="mean", dtype=torch.float16)
    bank.save(tmp_path / "bank")
    again = tb.load(tmp_path / "bank")
    assert isinstance(again, tb.KeyedMemoryBank)
    assert (again.momentum, again.duplicates, again.dtype) == (0.25, "mean", torch.float16)
