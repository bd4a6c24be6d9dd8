"""Plain tensors in the place of a bank."""

import pytest
import torch

import torchbank as tb
from torchbank.errors import BankTypeError, BankValueError


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_rows__read_as_a_bank_does():
    rows, labels, queries = randn(9, 4), torch.arange(9) % 3, randn(5, 4, seed=1)
    bank = tb.MemoryBank(9, 4, fields={"label": torch.int64}, metric="dot")
    bank.push(rows, label=labels)
    plain = tb.Rows(rows, label=labels)
    selection = {"include": {"label": torch.tensor([0, 1, 2, 0, 5])}, "bias": randn(9, seed=2)}
    for read in (
        lambda source: source.attend(queries, scale=3.0, **selection),
        lambda source: source.nearest(queries, 4, **selection),
        lambda source: source.pair_sum(queries, tb.reads.SCORE, labels=torch.arange(5), **selection),
        lambda source: source.triplet_sum(queries, labels=torch.tensor([1, 0, 2, 0, 1]), margin=0.5),
    ):
        for found, expected in zip(read(plain), read(bank), strict=True):
            assert torch.equal(found, expected)


def test_rows__are_used_as_they_are():
    rows = randn(6, 4).double()
    plain = tb.Rows(rows, metric="cosine", label=torch.arange(6))
    assert plain.embeddings is rows
    assert (len(plain), plain.dim, plain.metric) == (6, 4, "cosine")
    assert repr(plain) == "Rows(6 x 4, metric='cosine', fields=['label'])"
    # Only the query is normalised.
    score = plain.nearest(3 * rows[:1], 1).scores
    torch.testing.assert_close(score.double(), (rows / rows[0].norm() @ rows[0]).max().view(1, 1))


def test_rows__learn_under_the_reference():
    rows = randn(6, 4).requires_grad_()
    tb.Rows(rows).attend(randn(2, 4, seed=1), scale=1.0, impl="reference").lse.sum().backward()
    assert rows.grad.abs().sum() > 0


def test_rows__none_at_all():
    plain = tb.Rows(torch.zeros(0, 4))
    assert plain.attend(randn(2, 4), scale=1.0).lse.tolist() == [-torch.inf] * 2
    assert plain.nearest(randn(2, 4), 2).slots.tolist() == [[-1, -1]] * 2


@pytest.mark.plain
def test_rows__bad_input():
    rows = randn(6, 4)
    with pytest.raises(BankValueError, match=r"embeddings is \(6,\); expected a tensor of shape \(rows, dim\)"):
        tb.Rows(rows[:, 0])
    with pytest.raises(BankTypeError, match=r"dtype torch.int64; expected a floating dtype"):
        tb.Rows(rows.long())
    with pytest.raises(BankValueError, match=r"metric is 'l2'"):
        tb.Rows(rows, metric="l2")
    with pytest.raises(BankTypeError, match=r"field 'label' is a list"):
        tb.Rows(rows, label=[1] * 6)
    with pytest.raises(BankValueError, match=r"field 'label' has shape \(5,\) on cpu; expected \(6, ...\)"):
        tb.Rows(rows, label=torch.zeros(5))
    with pytest.raises(BankValueError, match=r"these rows have no age; max_age and half_life need a bank"):
        tb.Rows(rows).nearest(rows, 1, max_age=3)
