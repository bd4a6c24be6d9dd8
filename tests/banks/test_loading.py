"""Loading state: loud when it does not fit, and exact when it does."""

import pytest
import torch
from bank_cases import FIELDS, assert_same_state, fields_of, rows_of, snapshot
from torch import nn

import torchbank as tb
from torchbank.errors import BankKeyError, BankStateError, BankTypeError, BankValueError

KINDS = [tb.MemoryBank, tb.KeyedMemoryBank, tb.ReservoirMemoryBank]


def push(bank, numbers):
    keyed = {"keys": torch.tensor(list(numbers)) % bank.capacity} if isinstance(bank, tb.KeyedMemoryBank) else {}
    return bank.push(rows_of(numbers, bank.dim), **keyed, **{name: fields_of(numbers)[name] for name in bank.fields})


def filled(kind=tb.MemoryBank, capacity=5, numbers=range(4), **options):
    bank = kind(capacity, 2, **{"metric": "dot", "fields": FIELDS, **options})
    push(bank, numbers)
    return bank


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("kind", KINDS)
def test_load__going_on_is_as_if_never_stopped(kind, metric, dtype):
    options = {"metric": metric, "dtype": dtype, **({"momentum": 0.5} if kind is tb.KeyedMemoryBank else {})}
    stopped = filled(kind, numbers=range(1, 4), **options)
    whole = filled(kind, numbers=range(1, 4), **options)
    resumed = kind(5, 2, fields=FIELDS, **options)
    resumed.load_state_dict(stopped.state_dict())
    for numbers in (range(4, 8), range(9, 10), range(20, 24)):
        assert torch.equal(push(whole, numbers), push(resumed, numbers))
        assert_same_state(resumed, whole)


def test_load__inside_a_model_and_over_a_used_bank():
    source = nn.ModuleDict({"encoder": nn.Linear(2, 2), "bank": filled()})
    target = nn.ModuleDict({"encoder": nn.Linear(2, 2), "bank": filled(numbers=range(70, 79))})
    target.load_state_dict(source.state_dict())
    assert_same_state(target["bank"], source["bank"])
    assert target["bank"].embeddings.data_ptr() != source["bank"].embeddings.data_ptr()


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (
            nn.Linear(2, 2),
            BankKeyError,
            r"no entries embeddings, field_label, .* for a MemoryBank; it comes from a model",
        ),
        (filled(fields={}), BankKeyError, r"no entries field_label, field_box for a MemoryBank.*Build the same bank"),
        (
            tb.MemoryBank(5, 2, fields={**FIELDS, "id": torch.int64}, metric="dot"),
            BankKeyError,
            r"entries field_id that this MemoryBank \(with label, box\)",
        ),
        (filled(tb.ReservoirMemoryBank), BankKeyError, r"no entries replacement.offset"),
        (filled(metric="cosine", numbers=[1]), BankValueError, r"saved with metric 'cosine' and this bank has 'dot'"),
        (
            tb.MemoryBank(5, 3, fields=FIELDS, metric="dot"),
            BankValueError,
            r"embeddings in the state has shape \(5, 3\); expected \(5, 2\)",
        ),
        (
            tb.MemoryBank(5, 2, fields={"label": torch.float64, "box": (torch.float32, (2,))}, metric="dot"),
            BankTypeError,
            r"field_label in the state has dtype torch.float64",
        ),
        (
            tb.MemoryBank(5, 2, fields={"label": torch.int64, "box": (torch.float32, (3,))}, metric="dot"),
            BankValueError,
            r"field_box in the state has shape \(5, 3\)",
        ),
    ],
)
def test_load__what_does_not_fit_changes_nothing(source, error, message, strict):
    bank = filled(numbers=range(7))
    before = snapshot(bank)
    with pytest.raises(error, match=message):
        bank.load_state_dict(source.state_dict(), strict=strict)
    assert_same_state(bank, before)


def test_load__a_model_without_the_bank_fails_loudly():
    model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "bank": filled()})
    with pytest.raises(BankKeyError, match=r"no entries bank.embeddings, .*take the bank out of the model"):
        model.load_state_dict(nn.ModuleDict({"encoder": nn.Linear(2, 2)}).state_dict(), strict=False)


def test_load__another_row_dtype_is_cast():
    source = filled(dtype=torch.float32)
    bank = filled(dtype=torch.bfloat16, numbers=range(9))
    bank.load_state_dict(source.state_dict())
    assert bank.embeddings.dtype == torch.bfloat16
    assert torch.equal(bank.embeddings, source.embeddings.bfloat16())
    narrow = tb.MemoryBank(5, 2, fields=FIELDS, metric="dot", dtype=torch.float16)
    source.embeddings[2, 1] = 1e6
    with pytest.raises(BankValueError, match=r"too large for torch.float16; build the bank with dtype=torch.float32"):
        narrow.load_state_dict(source.state_dict())
    assert len(narrow) == 0


@pytest.mark.parametrize("capacity", [1, 3, 4, 6, 11])
@pytest.mark.parametrize("pushed", [0, 2, 5, 13])
def test_load__another_capacity_keeps_the_newest_rows(capacity, pushed):
    source = filled(numbers=range(pushed))
    bank = tb.MemoryBank(capacity, 2, fields=FIELDS, metric="dot")
    kept = min(capacity, pushed, 5)
    with pytest.warns(UserWarning, match=rf"loading {min(pushed, 5)} rows of a MemoryBank .* {kept} rows are kept"):
        bank.load_state_dict(source.state_dict())
    assert bank.view().fields["label"].tolist() == [10 * number for number in range(pushed - kept, pushed)]
    assert (bank.total_pushed, len(bank)) == (pushed, kept)
    # And goes on first in, first out.
    push(bank, range(pushed, pushed + 3))
    labels = [10 * number for number in range(pushed - kept, pushed + 3)][-capacity:]
    assert bank.ordered().fields["label"].tolist() == labels


def test_load__keys_stay_when_the_capacity_changes():
    source = filled(tb.KeyedMemoryBank, numbers=[0, 2, 3])
    for capacity, keys in ((9, [0, 2, 3]), (3, [0, 2]), (1, [0])):
        bank = tb.KeyedMemoryBank(capacity, 2, fields=FIELDS, metric="dot")
        with pytest.warns(UserWarning, match=f"{len(keys)} rows are kept"):
            bank.load_state_dict(source.state_dict())
        assert bank.view().valid.nonzero().squeeze(1).tolist() == keys
        assert torch.equal(bank.embeddings[keys], source.embeddings[keys])
        assert bank.generations[keys].tolist() == [1] * len(keys)


def test_load__assign_takes_the_tensors():
    source = filled()
    with torch.device("meta"):
        bank = tb.MemoryBank(5, 2, fields=FIELDS, metric="dot")
    bank.load_state_dict(source.state_dict(), assign=True)
    assert_same_state(bank, source)


class Stateful(tb.banks.Replacement):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def slots(self, rows, stored, total):
        self.calls.add_(1)
        return torch.arange(len(rows.steps)) % len(stored.steps)


class Stateless(tb.banks.Replacement):
    def slots(self, rows, stored, total):
        return (total + torch.arange(len(rows.steps))) % len(stored.steps)


class RuledBank(tb.Bank):
    def __init__(self, capacity, dim, *, rule, **storage):
        super().__init__(capacity, dim, replacement=rule, **storage)

    def options(self):
        return {}


def test_load__rule_with_state_must_say_how_to_resize():
    source = RuledBank(4, 2, rule=Stateful(), metric="dot")
    source.push(rows_of([1, 2]))
    bank = RuledBank(3, 2, rule=Stateful(), metric="dot")
    with pytest.raises(BankStateError, match=r"Stateful does not say how 2 rows move into a capacity of 3"):
        bank.load_state_dict(source.state_dict())
    assert len(bank) == 0


def test_load__rule_without_state_takes_the_rows_again():
    source = RuledBank(4, 2, rule=Stateless(), metric="dot")
    for step, number in enumerate([1, 2, 3, 4, 5]):
        source.push(rows_of([number]), step=step)
    bank = RuledBank(3, 2, rule=Stateless(), metric="dot")
    with pytest.warns(UserWarning, match="4 rows .* 3 rows are kept"):
        bank.load_state_dict(source.state_dict())
    # Oldest first 2, 3, 4, 5 to slots 0, 1, 2, 0.
    assert bank.embeddings[:, 0].tolist() == [5, 3, 4]
    assert bank.steps.tolist() == [4, 2, 3]
