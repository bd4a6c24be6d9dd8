"""Every rule about bad input: the message is read, and the bank is as it was, bit for bit."""

import pytest
import torch
from bank_cases import FIELDS, assert_same_state, fields_of, rows_of, snapshot

import torchbank as tb
from torchbank.errors import BankError, BankKeyError, BankTypeError, BankValueError

# The run-time checks of the suite would speak before the messages that users see.
pytestmark = pytest.mark.plain

NAN, INF = float("nan"), float("inf")


@pytest.fixture(params=[tb.MemoryBank, tb.ReservoirMemoryBank, tb.KeyedMemoryBank])
def bank(request):
    bank = request.param(5, 2, fields=FIELDS)
    bank.push(rows_of([1, 2]), **keys(bank, 2), **fields_of([1, 2]))
    return bank


def keys(bank, batch):
    return {"keys": torch.arange(batch)} if isinstance(bank, tb.KeyedMemoryBank) else {}


def good(batch=3):
    return {"embeddings": rows_of(range(1, 1 + batch)), **fields_of(range(batch))}


def changed(**changes):
    given = {**good(), **changes}
    return {name: value for name, value in given.items() if value is not None}


BAD_PUSHES = [
    (changed(embeddings=torch.ones(3, 4)), BankValueError, r"embeddings has shape \(3, 4\); expected \(batch, 2\)"),
    (changed(embeddings=torch.ones(2)), BankValueError, r"embeddings has shape \(2,\); expected \(batch, 2\)"),
    (changed(embeddings=[[1.0, 2.0]]), BankTypeError, r"embeddings is a list; expected a tensor"),
    (changed(embeddings=torch.ones(3, 2, dtype=torch.int64)), BankTypeError, r"dtype torch.int64.*convert with .float"),
    (changed(embeddings=torch.ones(3, 2, dtype=torch.bool)), BankTypeError, r"dtype torch.bool; expected a floating"),
    (changed(embeddings=torch.ones(3, 2, dtype=torch.complex64)), BankTypeError, r"dtype torch.complex64"),
    (changed(embeddings=torch.ones(3, 2, device="meta")), BankValueError, r"embeddings is on meta and the bank on cpu"),
    (changed(label=None), BankKeyError, r"push needs 'label' as well; this bank takes 'label', 'box'"),
    (changed(label=None, box=None), BankKeyError, r"push needs 'label', 'box' as well"),
    (changed(color=torch.ones(3)), BankKeyError, r"push got 'color'; this bank takes 'label', 'box'.*declare it"),
    (changed(label=torch.ones(2, dtype=torch.int64)), BankValueError, r"'label' has shape \(2,\); expected \(3,\)"),
    (changed(box=torch.ones(3)), BankValueError, r"field 'box' has shape \(3,\); expected \(3, 2\)"),
    (changed(label=torch.ones(3)), BankTypeError, r"'label' has dtype torch.float32, which torch.int64 cannot hold"),
    (changed(label=[1, 2, 3]), BankTypeError, r"field 'label' is a list; expected a tensor of torch.int64"),
    (changed(label=torch.ones(3, dtype=torch.int64, device="meta")), BankValueError, r"'label' is on meta"),
    (changed(step=1.5), BankTypeError, r"step is 1.5; expected an int"),
    (changed(step=True), BankTypeError, r"step is True; expected an int"),
    (changed(step=torch.ones(3)), BankTypeError, r"step is a torch.float32 tensor of shape \(3,\)"),
    (
        changed(embeddings=torch.tensor([[1.0, 1], [1, 1], [NAN, 1]])),
        BankValueError,
        r"row 2 of embeddings is not finite",
    ),
    (
        changed(embeddings=torch.tensor([[1.0, 1], [-INF, 1], [1, 1]])),
        BankValueError,
        r"row 1 of embeddings is not finite",
    ),
    (
        changed(embeddings=torch.tensor([[1.0, 1], [0, 0], [1, 1]])),
        BankValueError,
        r"row 1 of embeddings is all zeros.*cosine",
    ),
]


@pytest.mark.parametrize(("given", "error", "message"), BAD_PUSHES)
def test_push__bad_input_changes_nothing(bank, given, error, message):
    before = snapshot(bank)
    with pytest.raises(error, match=message) as raised:
        bank.push(**given, **keys(bank, 3))
    assert isinstance(raised.value, BankError)
    assert "\n" not in str(raised.value)
    assert_same_state(bank, before)


def test_push__errors_are_the_built_in_ones_too(bank):
    for error, embeddings in (
        (ValueError, torch.ones(3, 4)),
        (TypeError, torch.ones(3, 2, dtype=torch.int32)),
        (KeyError, torch.ones(3, 2)),
    ):
        with pytest.raises(error, match=r"expected|push needs 'label'"):
            bank.push(embeddings, **keys(bank, 3))


@pytest.mark.parametrize("kind", [tb.MemoryBank, tb.ReservoirMemoryBank])
@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_push__values_are_checked_after_the_cast(kind, metric):
    bank = kind(5, 2, metric=metric, dtype=torch.float16)
    bank.push(torch.zeros(1, 2))
    before = snapshot(bank)
    with pytest.raises(
        BankValueError, match=r"row 1 of embeddings is not finite after the cast to torch.float16.*1e\+05"
    ):
        bank.push(torch.tensor([[1.0, 1.0], [1e5, 1.0]]))
    assert_same_state(bank, before)
    assert kind(5, 2, dtype=torch.float16).push(torch.tensor([[1e5, 1.0]])).tolist() == [0]


def test_push__to_a_bank_without_fields():
    bank = tb.MemoryBank(5, 2)
    with pytest.raises(BankKeyError, match=r"push got 'label'; this bank has no fields; declare it with fields="):
        bank.push(torch.ones(1, 2), label=torch.ones(1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"capacity": 0}, BankValueError, "capacity is 0; expected at least 1"),
        ({"capacity": 2.5}, BankTypeError, "capacity is 2.5; expected a positive int"),
        ({"dim": True}, BankTypeError, "dim is True; expected a positive int"),
        ({"metric": "l2"}, BankValueError, "metric is 'l2'; expected one of 'cosine', 'dot', 'euclidean'"),
        ({"dtype": torch.float64}, BankTypeError, "dtype is torch.float64; rows are stored as torch.float32"),
        ({"fields": {"step": torch.int64}}, BankValueError, "a field cannot be named 'step'"),
        ({"fields": {"my label": torch.int64}}, BankValueError, "a field cannot be named 'my label'"),
        ({"fields": {"label": "int64"}}, BankTypeError, "field 'label' is declared as 'int64'; give a dtype"),
        ({"fields": {"box": (torch.float32, (0,))}}, BankValueError, "shape of field 'box' is 0"),
    ],
)
@pytest.mark.parametrize("kind", [tb.MemoryBank, tb.ReservoirMemoryBank, tb.KeyedMemoryBank])
def test_construction__bad_arguments(kind, arguments, error, message):
    with pytest.raises(error, match=message):
        kind(**{"capacity": 5, "dim": 2, **arguments})


def test_update__bad_input_changes_nothing(bank):
    slots, generations, embeddings = torch.tensor([0, 1]), torch.tensor([1, 1]), rows_of([5, 6])
    before = snapshot(bank)
    for given, error, message in [
        ((slots.int(), generations, embeddings), BankTypeError, r"slots is torch.int32; expected an int64 tensor"),
        ((slots, [1, 1], embeddings), BankTypeError, r"generations is list; expected an int64 tensor"),
        ((slots[:1], generations, embeddings), BankValueError, r"slots has shape \(1,\); expected \(2,\)"),
        ((slots + 4, generations, embeddings), BankValueError, r"slots holds 5; expected less than the capacity, 5"),
        (
            (slots, generations, embeddings[:, :1]),
            BankValueError,
            r"embeddings has shape \(2, 1\); expected \(batch, 2\)",
        ),
        ((slots, generations, embeddings * NAN), BankValueError, r"row 0 of embeddings is not finite"),
    ]:
        with pytest.raises(error, match=message):
            bank.update(*given)
        assert_same_state(bank, before)


def test_gather__bad_slots(bank):
    with pytest.raises(BankTypeError, match=r"slots is torch.float32; expected an int64 tensor"):
        bank.gather(torch.zeros(2))
    with pytest.raises(BankValueError, match="slots holds 5; expected less than the capacity, 5"):
        bank.gather(torch.tensor([5]))


def test_sampling__bad_sizes(bank):
    with pytest.raises(BankValueError, match="cannot sample 3 different rows of 2"):
        bank.sample(3)
    with pytest.raises(BankValueError, match="block_size is 0; expected at least 1"):
        bank.blocks(0)
