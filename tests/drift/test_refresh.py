"""Refreshing rows: stalest first, within the budget, and never over a newer row."""

import time

import pytest
import torch
from torch.nn.functional import normalize

import torchbank as tb
from torchbank.drift import refresh
from torchbank.errors import BankValueError

IMAGES = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))


def stale_bank(kind=tb.MemoryBank):
    """Forty rows in ten pushes; row i is of image i."""
    bank = kind(40, 4, fields={"id": torch.int64})
    for step, ids in enumerate(torch.arange(40).split(4)):
        keys = {"keys": ids} if kind is tb.KeyedMemoryBank else {}
        bank.push(torch.randn(4, 4), id=ids, step=step, **keys)
    return bank


@pytest.mark.parametrize("kind", [tb.MemoryBank, tb.KeyedMemoryBank])
def test_refresh__encodes_every_row_again(kind):
    bank = stale_bank(kind)
    generations = bank.generations.clone()
    done = refresh(bank, lambda rows: IMAGES[rows.fields["id"]], seconds=60.0, step=12, batch_size=7)
    assert done == (40, 0, 0)
    torch.testing.assert_close(bank.view().embeddings, normalize(IMAGES[:40], dim=1))
    assert bank.view().fields["id"].tolist() == list(range(40))
    assert (bank.age(12) == 0).all()
    assert torch.equal(bank.generations, generations)


def test_refresh__stalest_first_until_the_time_is_over():
    bank, seen = stale_bank(), []

    def slow(rows):
        seen.append(rows.steps.tolist())
        time.sleep(0.05)
        return IMAGES[rows.fields["id"]]

    done = refresh(bank, slow, seconds=0.12, batch_size=8)
    # A third batch would end after 0.15 s or later.
    assert (done.rows, done.stale) in ((8, 0), (16, 0))
    assert seen[0] == [0, 0, 0, 0, 1, 1, 1, 1]
    refreshed = bank.view().steps == 9
    assert refreshed[: done.rows].all()
    assert done.oldest == 9 - done.rows // 4
    assert bank.age(9).max() == done.oldest


def test_refresh__leaves_rows_alone_that_were_overwritten_meanwhile():
    bank = stale_bank()

    def encode(rows):
        bank.push(torch.full((2, 4), 3.0), id=torch.tensor([50, 51]), step=20)  # takes slots 0 and 1
        return IMAGES[rows.fields["id"]]

    done = refresh(bank, encode, seconds=60.0, step=21, batch_size=40)
    assert (done.rows, done.stale) == (38, 2)
    assert bank.view().fields["id"][:3].tolist() == [50, 51, 2]
    torch.testing.assert_close(bank.view().embeddings[:2], torch.full((2, 4), 0.5))
    assert done.oldest == 1


def test_refresh__of_an_empty_bank():
    assert refresh(tb.MemoryBank(4, 2), lambda rows: rows.embeddings, seconds=1.0) == (0, 0, 0)


@pytest.mark.plain
def test_refresh__bad_input():
    for words in ({"seconds": 0.0}, {"seconds": 1.0, "batch_size": 0}):
        with pytest.raises(BankValueError, match="expected a budget above 0"):
            refresh(stale_bank(), lambda rows: rows.embeddings, **words)
    bank = stale_bank()
    before = bank.embeddings.clone()
    with pytest.raises(BankValueError, match="shape"):
        refresh(bank, lambda rows: rows.embeddings[:, :2], seconds=1.0)
    assert torch.equal(bank.embeddings, before)
