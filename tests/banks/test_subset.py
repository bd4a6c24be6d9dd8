"""A subset of a bank against the bank with all other rows taken out by bias."""

import math

import pytest
import torch

import torchbank as tb
from torchbank.banks import Rows
from torchbank.reads import SCORE

SLOTS = torch.tensor([13, 2, 7, 2, 0])


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(storage="module", metric="cosine", dtype=torch.float32):
    bank = tb.MemoryBank(20, 4, fields={"id": torch.int64}, metric=metric, dtype=dtype, storage=storage)
    for step in range(4):
        bank.push(randn(4, 4, seed=step), id=torch.arange(4) + step, step=step)
    return bank


@pytest.mark.parametrize("storage", ["module", "host", "file"])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_subset__reads_its_rows_as_the_bank_does(tmp_path, storage, metric, dtype):
    bank = filled(tmp_path / "rows" if storage == "file" else storage, metric, dtype)
    queries, chosen = randn(3, 4, seed=9), {"half_life": 2.0, "max_age": 2, "step": 4}
    chosen["exclude"] = {"id": torch.tensor([1, 2, 3])}
    others = torch.full((16,), -torch.inf)
    others[SLOTS] = 0.0
    others[2] = math.log(2)  # it is there twice
    part = bank.subset(SLOTS)
    assert len(part) == 5
    torch.testing.assert_close(
        part.attend(queries, scale=3.0, **chosen), bank.attend(queries, scale=3.0, bias=others, **chosen)
    )
    torch.testing.assert_close(
        part.pair_sum(queries, SCORE, **chosen), bank.pair_sum(queries, SCORE, bias=others, **chosen)
    )
    found = part.nearest(queries, k=1)
    expected = bank.nearest(queries, k=1, bias=others.clamp_max(0))
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(bank.gather(SLOTS[found.slots]).embeddings, bank.gather(expected.slots).embeddings)


def test_subset__is_a_copy_with_the_age_it_had():
    bank = filled()
    part, queries = bank.subset(SLOTS), randn(3, 4, seed=9)
    before = part.attend(queries, scale=3.0, max_age=1)
    bank.push(randn(20, 4), id=torch.zeros(20, dtype=torch.int64), step=50)
    torch.testing.assert_close(part.attend(queries, scale=3.0, max_age=1), before, rtol=0, atol=0)


def test_subset__gradient_reaches_the_queries():
    part = filled().subset(SLOTS)
    torch.autograd.gradcheck(lambda q: part.attend(q, scale=3.0).lse, (randn(3, 4, seed=9).double().requires_grad_(),))


def test_subset__of_rows_is_those_rows():
    rows = Rows(randn(10, 4), id=torch.arange(10))
    part = rows.subset(torch.tensor([7, 3]))
    assert torch.equal(part.embeddings, rows.embeddings[[7, 3]])
    assert part.fields["id"].tolist() == [7, 3]


@pytest.mark.plain
@pytest.mark.parametrize(
    ("slots", "error", "message"),
    [
        (torch.tensor([0, 16]), ValueError, "slots holds 16, where there is no row"),
        (torch.tensor([0, -1]), ValueError, "slots holds -1, where there is no row"),
        (torch.tensor([0, 20]), ValueError, "slots holds 20; expected less than the capacity"),
        (torch.tensor([[0, 1]]), ValueError, r"slots has shape \(1, 2\)"),
        (torch.tensor([0.0]), TypeError, "int64"),
    ],
)
def test_subset__bad_slots(slots, error, message):
    with pytest.raises(error, match=message) as raised:
        filled().subset(slots)
    assert isinstance(raised.value, tb.errors.BankError)
