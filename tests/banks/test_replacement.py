"""A rule of a user's own gets everything else for free."""

import pytest
import torch
from bank_cases import assert_same_state, push_as_on_device, rows_of, snapshot

import torchbank as tb
from torchbank.errors import BankError, BankTypeError, BankValueError


class Best(tb.banks.Replacement):
    """Keeps, for each key, the row with the best score; counts what it saw."""

    inputs = ("keys", "score")

    def __init__(self, capacity):
        super().__init__()
        self.register_buffer("best", torch.full((capacity,), -torch.inf))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def slots(self, rows, stored, total):
        keys, score = rows.fields["keys"], rows.fields["score"]
        self.seen.add_(rows.valid.sum())
        better = score > self.best[keys]
        self.best.scatter_reduce_(0, keys, score, "amax")
        winner = score == self.best[keys]
        return torch.where(better & winner, keys, -1)


class BestBank(tb.Bank):
    def __init__(self, capacity, dim, **storage):
        super().__init__(capacity, dim, replacement=Best(capacity), **storage)

    def options(self):
        return {}


class BrokenBank(tb.Bank):
    def __init__(self, capacity, dim, *, answer, **storage):
        rule = Broken()
        rule.answer = answer
        super().__init__(capacity, dim, replacement=rule, **storage)

    def options(self):
        return {}


class Broken(tb.banks.Replacement):
    def slots(self, rows, stored, total):
        return self.answer


def pushed():
    bank = BestBank(4, 2, fields={"label": torch.int64}, metric="dot")
    for step, (numbers, keys, score) in enumerate(
        [([1, 2, 3], [0, 1, 0], [1.0, 5.0, 2.0]), ([4, 5], [1, 3], [4.0, 1.0]), ([6], [0], [9.0])]
    ):
        bank.push(
            rows_of(numbers),
            step=step,
            keys=torch.tensor(keys),
            score=torch.tensor(score),
            label=torch.tensor(numbers),
        )
    return bank


def test_rule__decides_and_the_bank_does_the_rest(tmp_path):
    bank = pushed()
    view = bank.view()
    assert view.valid.tolist() == [True, True, False, True]
    assert view.fields["label"].tolist() == [6, 2, 0, 5]
    assert view.steps.tolist() == [2, 0, 0, 1]
    assert bank.generations.tolist() == [2, 1, 0, 1]
    assert bank.ordered().fields["label"].tolist() == [2, 5, 6]
    found = bank.nearest(torch.tensor([[1.0, 0.0]]), k=4, exclude={"label": torch.tensor([5])})
    assert found.slots.tolist() == [[0, 1, -1, -1]]
    bank.save(tmp_path / "best")
    again = tb.load(tmp_path / "best")
    assert isinstance(again, BestBank)
    assert_same_state(again, bank)
    assert int(again.replacement.seen) == 6


def test_rule__sees_refused_rows_on_a_device():
    bank = BestBank(4, 2, metric="dot")
    slots = push_as_on_device(
        bank,
        torch.tensor([[1.0, 1.0], [torch.nan, 1.0]]),
        keys=torch.tensor([0, 1]),
        score=torch.ones(2),
    )
    assert slots.tolist() == [0, -1]
    assert (int(bank.replacement.seen), int(bank.rejected), bank.total_pushed) == (1, 1, 1)


def test_rule__missing_input_is_named():
    bank = BestBank(4, 2, metric="dot")
    with pytest.raises(BankError, match=r"push needs 'score' as well; this bank takes 'keys', 'score'"):
        bank.push(rows_of([1]), keys=torch.tensor([0]))
    with pytest.raises(BankValueError, match=r"score has shape \(2,\); expected \(1,\)"):
        bank.push(rows_of([1]), keys=torch.tensor([0]), score=torch.ones(2))


@pytest.mark.plain
@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (torch.tensor([0, 4]), BankValueError, r"Broken gave slot 4 to row 1; expected 0 to 3"),
        (
            torch.tensor([0.0, 1.0]),
            BankTypeError,
            r"Broken.slots gave torch.float32 of shape \(2,\); expected torch.int64",
        ),
        (
            torch.tensor([0]),
            BankTypeError,
            r"Broken.slots gave torch.int64 of shape \(1,\); expected torch.int64 of \(2,\)",
        ),
        (torch.tensor([0, -2]), BankValueError, r"row 1 was refused by Broken as bad input"),
    ],
)
def test_rule__wrong_answers_are_errors_that_change_nothing(answer, error, message):
    bank = BrokenBank(4, 2, answer=answer, metric="dot")
    before = snapshot(bank)
    with pytest.raises(error, match=message):
        bank.push(rows_of([1, 2]))
    assert_same_state(bank, before)


def test_bank__our_names_are_taken():
    with pytest.raises(BankValueError, match="torchbank has a bank named 'MemoryBank'"):
        type("MemoryBank", (tb.Bank,), {})


def test_bank__needs_options_to_be_built_again():
    with pytest.raises(TypeError, match="options"):
        tb.Bank(4, 2, replacement=Best(4))
