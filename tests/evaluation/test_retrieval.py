"""Retrieval scores against a slow restatement of their definitions, with many equal scores."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbank import evaluation
from torchbank.errors import BankTypeError, BankValueError
from torchbank.evaluation import _ranked_lists, _whole_lists

KS = (1, 3, 10, 100)


def slow_retrieval(embeddings, labels, ks):
    """The definitions, one query at a time, in plain Python; ranked by score, then by index."""
    rows = embeddings.double().numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    per_query = []
    for query in range(len(rows)):
        scores = rows @ rows[query]
        ranked = sorted((row for row in range(len(rows)) if row != query), key=lambda row: (-scores[row], row))
        hits = [bool(labels[row] == labels[query]) for row in ranked]
        relevant = sum(hits)
        if relevant:
            precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
            per_query.append(
                [float(any(hits[:k])) for k in ks]
                + [sum(p for p, hit in zip(precision[:relevant], hits[:relevant], strict=True) if hit) / relevant]
                + [sum(hits[:relevant]) / relevant]
                + [sum(p for p, hit in zip(precision, hits, strict=True) if hit) / relevant]
                + [relevant / max(rank for rank, hit in enumerate(hits, start=1) if hit)]
            )
    return np.mean(per_query, axis=0), len(per_query), len(rows) - len(per_query)


def assert_equals_slow(embeddings, labels, ks=KS):
    scores = evaluation.retrieval(embeddings, labels, ks=ks)
    expected, queries, lone = slow_retrieval(embeddings, labels, ks)
    given = [*scores.recall_at.values(), scores.map_at_r, scores.r_precision, scores.mean_average_precision]
    given.append(scores.mean_inverse_negative_penalty)
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-9)
    assert (scores.queries, scores.lone_queries) == (queries, lone)


def signs(n, dim, seed):
    """Rows of +1 and -1 in a dimension that is a power of four: cosines are exact, and most of them are equal."""
    return torch.randint(0, 2, (n, dim), generator=torch.Generator().manual_seed(seed)).float() * 2 - 1


def random_labels(n, classes, seed):
    return torch.randint(0, classes, (n,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "classes"), [(2, 1), (7, 3), (60, 5), (201, 60), (300, 2)])
def test_retrieval__equals_the_definitions(n, classes, dtype):
    embeddings = torch.randn(n, 16, generator=torch.Generator().manual_seed(n), dtype=torch.float64).to(dtype)
    assert_equals_slow(embeddings, random_labels(n, classes, seed=n))


@given(
    n=st.integers(3, 90),
    classes=st.integers(1, 20),
    dim=st.sampled_from([4, 16]),
    seed=st.integers(0, 1_000),
)
def test_retrieval__breaks_heavy_ties_by_index(n, classes, dim, seed):
    labels = random_labels(n, classes, seed + 1)
    if labels.unique(return_counts=True)[1].max() > 1:
        assert_equals_slow(signs(n, dim, seed), labels)


@pytest.mark.parametrize("budget", [1, 500, 4_000])
def test_retrieval__is_the_same_in_any_block_size(monkeypatch, budget):
    monkeypatch.setattr(_ranked_lists, "BLOCK_SCORES", budget)
    monkeypatch.setattr(_whole_lists, "BLOCK_SCORES", budget)
    assert_equals_slow(signs(120, 4, seed=3), random_labels(120, 15, seed=4))


def test_retrieval__collapsed_embeddings_rank_by_index():
    embeddings = torch.tensor([3.0, 4.0]).expand(40, 2)
    assert_equals_slow(embeddings, random_labels(40, 8, seed=0))


def test_retrieval__one_query_by_hand():
    # From row 0 the others stand at growing angles: rows 1, 2, 3, 4; rows 2 and 4 are of its class.
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4])
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels = torch.tensor([7, 1, 7, 2, 7])
    from_row_0 = {"map_at_r": (1 / 2) / 2, "r_precision": 1 / 2, "mean_average_precision": (1 / 2 + 2 / 4) / 2}
    # Row 2 sees row 1 and 3 (both at 0.1) before 0 and 4 (at 0.2); row 4 sees 3, 2, 1, 0.
    from_row_2 = {"map_at_r": 0.0, "r_precision": 0.0, "mean_average_precision": (1 / 3 + 2 / 4) / 2}
    from_row_4 = {"map_at_r": (1 / 2) / 2, "r_precision": 1 / 2, "mean_average_precision": (1 / 2 + 2 / 4) / 2}
    scores = evaluation.retrieval(embeddings, labels, ks=(1, 2)).as_dict()
    for name, value in from_row_0.items():
        assert scores[name] == pytest.approx((value + from_row_2[name] + from_row_4[name]) / 3)
    assert scores["recall_at_1"] == 0
    assert scores["recall_at_2"] == pytest.approx(2 / 3)
    assert scores["queries"] == 3
    assert scores["lone_queries"] == 2


def test_retrieval__agrees_with_the_formulas_of_pytorch_metric_learning():
    # AccuracyCalculator, restated: knn labels without the query; R@1 = knn[:, 0]; R-precision and MAP@R over the
    # first R columns; mean_average_precision over all; lone queries left out.
    embeddings = torch.nn.functional.normalize(torch.randn(150, 8, generator=torch.Generator().manual_seed(0)))
    labels = random_labels(150, 40, seed=0)
    similarity = (embeddings @ embeddings.T).fill_diagonal_(-torch.inf)
    knn_labels = labels[similarity.argsort(dim=1, descending=True)[:, :-1]]
    same = knn_labels == labels[:, None]
    relevant = same.sum(dim=1)
    same, relevant = same[relevant > 0], relevant[relevant > 0]
    accuracy = same.cumsum(dim=1) * same / torch.arange(1, same.shape[1] + 1)
    to_r = torch.arange(same.shape[1]) < relevant[:, None]
    scores = evaluation.retrieval(embeddings, labels)
    assert scores.recall_at[1] == pytest.approx(same[:, 0].float().mean().item())
    assert scores.r_precision == pytest.approx(((same & to_r).sum(dim=1) / relevant).mean().item())
    assert scores.map_at_r == pytest.approx(((accuracy * to_r).sum(dim=1) / relevant).mean().item())
    assert scores.mean_average_precision == pytest.approx((accuracy.sum(dim=1) / relevant).mean().item())


def test_retrieval__a_duplicate_of_the_query_is_found():
    embeddings = torch.eye(4)[[0, 0, 1, 2]]
    scores = evaluation.retrieval(embeddings, torch.tensor([0, 0, 1, 1]), ks=(1,))
    assert scores.recall_at[1] == pytest.approx(0.5)


def test_retrieval__does_not_depend_on_the_length_of_embeddings():
    embeddings = torch.randn(80, 8, generator=torch.Generator().manual_seed(0))
    labels = random_labels(80, 9, seed=0)
    # Powers of two change no bit of the mantissa.
    lengths = 2.0 ** torch.randint(-3, 4, (80, 1), generator=torch.Generator().manual_seed(1))
    assert evaluation.retrieval(embeddings * lengths, labels) == evaluation.retrieval(embeddings, labels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_retrieval__takes_half_precision(dtype):
    embeddings = signs(50, 16, seed=0)
    labels = random_labels(50, 9, seed=0)
    assert evaluation.retrieval(embeddings.to(dtype), labels) == evaluation.retrieval(embeddings, labels)


def test_retrieval__a_k_beyond_the_rows_looks_at_all_of_them():
    scores = evaluation.retrieval(torch.eye(4), torch.tensor([0, 0, 1, 1]), ks=(1_000,))
    assert scores.recall_at == {1_000: 1.0}


def test_retrieval__no_ks_gives_the_other_scores():
    assert evaluation.retrieval(torch.eye(4), torch.tensor([0, 0, 1, 1]), ks=()).recall_at == {}


PEAK = """
import resource, torch
from torchbank import evaluation
torch.set_num_threads(1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
labels = torch.arange({n}) // 10
evaluation.retrieval(torch.randn(500, 16), labels[:500])
before = peak()
evaluation.retrieval({embeddings}, labels)
print(peak() - before)
"""


@pytest.mark.parametrize(("n", "embeddings"), [(8_000, "torch.randn(8_000, 16)"), (3_000, "torch.ones(3_000, 16)")])
def test_retrieval__memory_stays_below_64_mb(n, embeddings):
    # The square of 8,000 rows holds 256 MB of scores. A process of its own: the peak of this one is past.
    code = PEAK.format(n=n, embeddings=embeddings)
    grown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert float(grown) < 64


def test_retrieval_examples__equal_a_full_sort():
    embeddings, labels = signs(70, 4, seed=5), random_labels(70, 6, seed=6)
    queries = torch.tensor([69, 0, 12, 0])
    indices, correct = evaluation.retrieval_examples(embeddings, labels, queries=queries, k=11)
    scores = embeddings[queries] @ embeddings.T
    scores[torch.arange(4), queries] = -torch.inf
    expected = scores.sort(dim=1, descending=True, stable=True).indices[:, :11]
    assert torch.equal(indices, expected)
    assert torch.equal(correct, labels[expected] == labels[queries][:, None])


def test_retrieval_examples__takes_all_other_rows():
    indices, _ = evaluation.retrieval_examples(torch.eye(3), torch.tensor([0, 0, 1]), queries=torch.tensor([1]), k=2)
    assert indices.tolist() == [[0, 2]]


EMBEDDINGS, LABELS = torch.eye(4), torch.tensor([0, 0, 1, 1])


@pytest.mark.plain
@pytest.mark.parametrize(
    ("embeddings", "labels", "error", "message"),
    [
        (EMBEDDINGS.long(), LABELS, BankTypeError, "torch.int64 and labels torch.int64"),
        (EMBEDDINGS, LABELS.float(), BankTypeError, "labels torch.float32"),
        (EMBEDDINGS, LABELS[:3], BankValueError, r"labels \(3,\)"),
        (EMBEDDINGS[0], LABELS, BankValueError, r"embeddings are \(4,\)"),
        (EMBEDDINGS, torch.arange(4), BankValueError, "no class has two of the 4 rows"),
        (EMBEDDINGS[:0], LABELS[:0], BankValueError, "no class has two of the 0 rows"),
        (EMBEDDINGS * torch.tensor([[1], [0], [1], [0]]), LABELS, BankValueError, "2 of 4 .* first in row 1"),
        (EMBEDDINGS + torch.tensor([[0], [0], [torch.nan], [0]]), LABELS, BankValueError, "1 of 4 .* in row 2"),
        (EMBEDDINGS + torch.tensor([[0], [0], [0], [torch.inf]]), LABELS, BankValueError, "1 of 4 .* in row 3"),
    ],
)
def test_retrieval__refuses(embeddings, labels, error, message):
    with pytest.raises(error, match=message):
        evaluation.retrieval(embeddings, labels)


@pytest.mark.plain
def test_retrieval__refuses_a_rank_of_zero():
    with pytest.raises(BankValueError, match=r"ks is \(0, 1\)"):
        evaluation.retrieval(EMBEDDINGS, LABELS, ks=(0, 1))


@pytest.mark.plain
@pytest.mark.parametrize(
    ("queries", "k", "error", "message"),
    [
        (torch.tensor([0]), 4, BankValueError, "k is 4; expected 1 to 3"),
        (torch.tensor([0]), 0, BankValueError, "k is 0"),
        (torch.tensor([4]), 1, BankValueError, "from 4 to 4; expected row numbers below 4"),
        (torch.tensor([-1]), 1, BankValueError, "from -1 to -1"),
        (torch.tensor([0.0]), 1, BankTypeError, "torch.float32"),
    ],
)
def test_retrieval_examples__refuses(queries, k, error, message):
    with pytest.raises(error, match=message):
        evaluation.retrieval_examples(EMBEDDINGS, LABELS, queries=queries, k=k)
