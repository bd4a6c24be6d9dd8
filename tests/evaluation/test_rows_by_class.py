"""Which rows a seed draws: exact counts, and nothing but labels and seed matters."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbank import evaluation
from torchbank.errors import BankTypeError, BankValueError


@pytest.mark.parametrize(("fraction", "each"), [(0.01, 60), (0.1, 600)])
def test_low_shot_rows__counts_of_fashion_mnist(fraction, each):
    labels = (torch.arange(60_000) * 7) % 10
    rows = evaluation.low_shot_rows(labels, fraction=fraction)
    assert labels[rows].bincount().tolist() == [each] * 10
    assert torch.equal(rows, rows.unique())
    assert torch.equal(rows, evaluation.low_shot_rows(labels, fraction=fraction))
    assert not torch.equal(rows, evaluation.low_shot_rows(labels, fraction=fraction, seed=1))


def test_low_shot_rows__every_row_has_the_same_chance():
    labels = torch.arange(2).repeat_interleave(20)
    counts = torch.zeros(40)
    for seed in range(400):
        counts[evaluation.low_shot_rows(labels, fraction=0.25, seed=seed)] += 1
    # 400 draws of 5 in 20: 100 +- 8.7 each.
    assert counts.sum() == 400 * 10
    assert float((counts - 100).abs().max()) < 5 * 8.7


def test_low_shot_rows__a_small_class_gives_all_it_has():
    labels = torch.tensor([4] * 96 + [9] * 4)
    assert labels[evaluation.low_shot_rows(labels, fraction=0.2)].bincount()[[4, 9]].tolist() == [10, 4]


@given(labels=st.lists(st.integers(0, 6), max_size=60), seed=st.integers(0, 100))
def test_support_and_query__halve_each_class(labels, seed):
    labels = torch.tensor(labels, dtype=torch.int64)
    support, query = evaluation.support_and_query(labels, seed=seed)
    assert not set(support.tolist()) & set(query.tolist())
    for label in labels.unique().tolist():
        size = int((labels == label).sum())
        expected = (0, 0) if size == 1 else (size // 2, size - size // 2)
        assert tuple(int((labels[rows] == label).sum()) for rows in (support, query)) == expected


@pytest.mark.plain
@pytest.mark.parametrize(
    ("labels", "fraction", "error", "message"),
    [
        (
            torch.arange(10).repeat(4),
            0.01,
            BankValueError,
            "0.01 of 40 rows in 10 classes is less than one row a class",
        ),
        (torch.arange(10), 1.0, BankValueError, "fraction is 1.0"),
        (torch.arange(10), 0.0, BankValueError, "fraction is 0.0"),
        (torch.zeros(0).long(), 0.5, BankValueError, "0.5 of 0 rows in 0 classes"),
        (torch.rand(10), 0.5, BankTypeError, "labels are torch.float32"),
        (torch.zeros(3, 3).long(), 0.5, BankTypeError, r"of shape \(3, 3\)"),
    ],
)
def test_low_shot_rows__refuses(labels, fraction, error, message):
    with pytest.raises(error, match=message):
        evaluation.low_shot_rows(labels, fraction=fraction)
