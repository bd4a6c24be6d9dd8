"""Paired retrieval against a count over the full score matrix."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbank.errors import BankTypeError, BankValueError
from torchbank.evaluation import paired_retrieval


def counted(queries, gallery, k):
    """How many partners have fewer than k other rows that score as much or more."""
    scores = queries.double() @ gallery.double().T
    return sum(sum(score >= row[i] for score in row) <= k for i, row in enumerate(scores)) / len(scores)


@given(n=st.integers(1, 40), dim=st.integers(2, 6), seed=st.integers(0, 2**30), distinct=st.integers(1, 40))
def test_paired_retrieval__is_a_count_over_all_scores(n, dim, seed, distinct):
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(distinct, dim, generator=generator, dtype=torch.float64) for _ in range(2))
    # Of fewer distinct rows than pairs, some are tied.
    chosen = torch.randint(distinct, (n,), generator=generator)
    first, second = first[chosen], second[chosen]
    scores = paired_retrieval(first, second, ks=(1, 3, 10))
    first, second = (side / side.norm(dim=1, keepdim=True) for side in (first, second))
    assert scores.forward == {k: counted(first, second, k) for k in (1, 3, 10)}
    assert scores.backward == {k: counted(second, first, k) for k in (1, 3, 10)}
    assert scores.pairs == n


def test_paired_retrieval__perfect_and_collapsed_sides():
    sides = torch.randn(700, 8, generator=torch.Generator().manual_seed(0))
    perfect = paired_retrieval(sides, 3 * sides)
    assert perfect.as_dict() == {
        "forward_recall_at_1": 1.0, "forward_recall_at_10": 1.0,
        "backward_recall_at_1": 1.0, "backward_recall_at_10": 1.0,
        "pairs": 700,
    }  # fmt: skip
    assert set(paired_retrieval(torch.ones(700, 8), torch.ones(700, 8)).forward.values()) == {0.0}


@pytest.mark.plain
@pytest.mark.parametrize(
    ("first", "second", "ks", "error", "message"),
    [
        (torch.ones(3, 2), torch.ones(4, 2), (1,), BankValueError, r"\(3, 2\) on cpu and \(4, 2\)"),
        (torch.ones(0, 2), torch.ones(0, 2), (1,), BankValueError, "one pair or more"),
        (torch.ones(3, 2), torch.ones(3, 2), (0,), BankValueError, r"ks is \(0,\)"),
        (torch.ones(3, 2), torch.ones(3, 2).double(), (1,), BankTypeError, "torch.float32 and torch.float64"),
        (torch.ones(3, 2).long(), torch.ones(3, 2).long(), (1,), BankTypeError, "expected floating"),
    ],
)
def test_paired_retrieval__refuses(first, second, ks, error, message):
    with pytest.raises(error, match=message):
        paired_retrieval(first, second, ks=ks)
