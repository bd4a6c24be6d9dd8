"""Query and gallery against a slow restatement of the definitions; breakdown by group; another library's scores."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbank import evaluation
from torchbank.errors import BankTypeError, BankValueError
from torchbank.evaluation._rows_by_class import choose_by_class

KS = (1, 2, 5)


def features(n, classes, seed, *, dim=4, cameras=3):
    """Rows of +1 and -1, whose cosines are exact and mostly equal, with labels and cameras."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randint(0, 2, (n, dim), generator=generator).float() * 2 - 1
    labels = torch.randint(0, classes, (n,), generator=generator)
    camera = torch.randint(0, cameras, (n,), generator=generator)
    return SimpleNamespace(embeddings=embeddings, labels=labels, cameras=camera)


def slow_scores(queries, gallery, *, cameras):
    """The definitions, one query at a time, in plain Python; None where a query has nothing to find."""
    asked, rows = (part.embeddings.double().numpy() for part in (queries, gallery))
    asked, rows = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (asked, rows))
    scores = []
    for query in range(len(asked)):
        label, camera = queries.labels[query], queries.cameras[query]
        seen = [
            row
            for row in range(len(rows))
            if not (cameras and gallery.labels[row] == label and gallery.cameras[row] == camera)
        ]
        ranked = sorted(seen, key=lambda row: (-(rows[row] @ asked[query]), row))
        hits = [bool(gallery.labels[row] == label) for row in ranked]
        relevant = sum(hits)
        if not relevant:
            scores.append(None)
            continue
        precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
        scores.append(
            [float(any(hits[:k])) for k in KS]
            + [sum(p for p, hit in zip(precision[:relevant], hits[:relevant], strict=True) if hit) / relevant]
            + [sum(hits[:relevant]) / relevant]
            + [sum(p for p, hit in zip(precision, hits, strict=True) if hit) / relevant]
            + [relevant / max(rank for rank, hit in enumerate(hits, start=1) if hit)]
        )
    return scores


def flat(scores):
    return [
        *scores.recall_at.values(),
        *(scores.map_at_r, scores.r_precision, scores.mean_average_precision, scores.mean_inverse_negative_penalty),
    ]


@given(
    q=st.integers(1, 25),
    n=st.integers(1, 60),
    classes=st.integers(1, 8),
    dim=st.sampled_from([4, 16]),
    cameras=st.booleans(),
    seed=st.integers(0, 1_000),
)
def test_query_gallery__equals_the_definitions(q, n, classes, dim, cameras, seed):
    queries, gallery = features(q, classes, seed, dim=dim), features(n, classes, seed + 1, dim=dim)
    expected = slow_scores(queries, gallery, cameras=cameras)
    scored = [score for score in expected if score is not None]
    if not scored:
        return
    seen_by = (queries.cameras, gallery.cameras) if cameras else None
    scores = evaluation.query_gallery(queries, gallery, cameras=seen_by, ks=KS)
    np.testing.assert_allclose(flat(scores), np.mean(scored, axis=0), rtol=0, atol=1e-9)
    assert (scores.queries, scores.lone_queries) == (len(scored), len(expected) - len(scored))


def test_query_gallery__of_all_against_all_sees_itself_first():
    both = features(40, 6, seed=0, dim=256)
    assert evaluation.query_gallery(both, both, ks=(1,)).recall_at == {1: 1.0}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_query_gallery__takes_queries_of_another_dtype(dtype):
    queries, gallery = features(8, 3, 0), features(12, 3, 1)
    other = SimpleNamespace(embeddings=queries.embeddings.to(dtype), labels=queries.labels)
    assert evaluation.query_gallery(other, gallery, ks=KS) == evaluation.query_gallery(queries, gallery, ks=KS)


def test_query_gallery__a_camera_of_its_own_changes_nothing():
    queries, gallery = features(20, 4, seed=0), features(50, 4, seed=1)
    others = (queries.cameras, gallery.cameras + 3)
    assert evaluation.query_gallery(queries, gallery, cameras=others) == evaluation.query_gallery(queries, gallery)


def test_query_gallery__one_query_by_hand():
    # From the query the gallery stands at growing angles, of its class in second and fifth place.
    angles = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    rows = torch.stack([angles.cos(), angles.sin()], dim=1)
    queries = SimpleNamespace(embeddings=torch.tensor([[1.0, 0.0]]), labels=torch.tensor([7]))
    gallery = SimpleNamespace(embeddings=rows, labels=torch.tensor([1, 7, 2, 3, 7]))
    scores = evaluation.query_gallery(queries, gallery, ks=KS)
    assert scores.recall_at == {1: 0.0, 2: 1.0, 5: 1.0}
    assert scores.map_at_r == pytest.approx((1 / 2) / 2)
    assert scores.mean_average_precision == pytest.approx((1 / 2 + 2 / 5) / 2)
    assert scores.mean_inverse_negative_penalty == pytest.approx(2 / 5)
    # The nearer of the two was taken by the camera of the query.
    cameras = torch.tensor([0]), torch.tensor([0, 0, 1, 1, 1])
    filtered = evaluation.query_gallery(queries, gallery, cameras=cameras, ks=KS)
    assert filtered.recall_at == {1: 0.0, 2: 0.0, 5: 1.0}
    assert filtered.mean_inverse_negative_penalty == pytest.approx(1 / 4)


def test_by_group__is_the_mean_of_its_queries():
    queries, gallery = features(60, 5, seed=2), features(90, 4, seed=3)
    scores = evaluation.query_gallery(queries, gallery, ks=KS)
    expected = slow_scores(queries, gallery, cameras=False)
    for groups in (queries.labels, queries.cameras):
        by_group = scores.by_group(groups)
        for group in groups.unique().tolist():
            members = [score for score, own in zip(expected, groups.tolist(), strict=True) if own == group]
            scored = [score for score in members if score is not None]
            if not scored:
                assert group not in by_group
                continue
            np.testing.assert_allclose(flat(by_group[group]), np.mean(scored, axis=0), rtol=0, atol=1e-9)
            assert by_group[group].queries == len(scored)
            assert by_group[group].lone_queries == len(members) - len(scored)


def test_by_group__of_all_queries_is_the_whole():
    both = features(50, 9, seed=4)
    scores = evaluation.retrieval(both.embeddings, both.labels)
    assert scores.by_group(torch.zeros(50, dtype=torch.int64)) == {0: scores}


def test_random_gallery__is_the_mean_of_its_draws():
    both = features(60, 12, seed=5)
    together = evaluation.random_gallery(both.embeddings, both.labels, draws=3, seed=8)
    alone = []
    for draw in range(3):
        chosen = choose_by_class(both.labels, torch.ones_like(both.labels.unique()), seed=8 + draw)
        assert sorted(both.labels[chosen].tolist()) == list(range(12))
        queries, gallery = (
            SimpleNamespace(embeddings=both.embeddings[rows], labels=both.labels[rows]) for rows in (~chosen, chosen)
        )
        alone.append(evaluation.query_gallery(queries, gallery, ks=(1, 5)))
    np.testing.assert_allclose(flat(together), np.mean([flat(scores) for scores in alone], axis=0), rtol=0, atol=1e-12)
    assert together.queries == 3 * (60 - 12)
    # One row of its class is all that there is to find.
    assert together.map_at_r == together.recall_at[1]


def test_random_gallery__a_class_of_one_row_is_never_asked():
    scores = evaluation.random_gallery(torch.eye(3), torch.tensor([0, 0, 1]), draws=2)
    assert (scores.queries, scores.lone_queries) == (2, 1)
    assert set(scores.by_group(torch.tensor([0, 0, 1]))) == {0}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("self_retrieval", [True, False])
def test_scores__agree_with_pytorch_metric_learning(self_retrieval):
    reason = "compares with pytorch-metric-learning, which is not installed"
    calculators = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator", reason=reason)
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(220, 16, generator=generator))
    labels = torch.randint(0, 45, (220,), generator=generator)
    queries, gallery = (
        SimpleNamespace(embeddings=embeddings[rows], labels=labels[rows]) for rows in (slice(0, 80), slice(80, 220))
    )
    ours = evaluation.retrieval(embeddings, labels)
    theirs = (embeddings, labels)
    if not self_retrieval:
        ours = evaluation.query_gallery(queries, gallery)
        theirs = (queries.embeddings, queries.labels, gallery.embeddings, gallery.labels)
    names = {
        "precision_at_1": ours.recall_at[1],
        "r_precision": ours.r_precision,
        "mean_average_precision_at_r": ours.map_at_r,
        "mean_average_precision": ours.mean_average_precision,
    }
    calculator = calculators.AccuracyCalculator(include=tuple(names), k=None, device=torch.device("cpu"))
    assert calculator.get_accuracy(*theirs) == pytest.approx(names)
    # By class: its list leaves out the classes that cannot be found.
    per_class = calculators.AccuracyCalculator(
        include=("mean_average_precision_at_r",), k=None, return_per_class=True, device=torch.device("cpu")
    )
    by_class = ours.by_group(labels if self_retrieval else queries.labels)
    expected = per_class.get_accuracy(*theirs)["mean_average_precision_at_r"]
    assert [scores.map_at_r for scores in by_class.values()] == pytest.approx(expected)


QUERIES = SimpleNamespace(embeddings=torch.eye(2), labels=torch.tensor([0, 1]))
GALLERY = SimpleNamespace(embeddings=torch.eye(2)[[0, 0, 1]], labels=torch.tensor([0, 0, 1]))


@pytest.mark.plain
@pytest.mark.parametrize(
    ("queries", "gallery", "options", "error", "message"),
    [
        ({"embeddings": torch.eye(3)[:2]}, {}, {}, BankValueError, r"queries are \(2, 3\) .* gallery \(3, 2\)"),
        ({}, {"embeddings": torch.zeros(3, 2)}, {}, BankValueError, "3 of 3 gallery embeddings are not finite or zero"),
        ({"labels": torch.tensor([5, 6])}, {}, {}, BankValueError, "none of the 2 queries has a row of its class"),
        ({"labels": torch.tensor([0.0, 1.0])}, {}, {}, BankTypeError, "query embeddings are .* labels torch.float32"),
        ({}, {}, {"ks": (0,)}, BankValueError, r"ks is \(0,\)"),
        ({}, {}, {"cameras": (torch.zeros(2), torch.zeros(3))}, BankTypeError, "query cameras are torch.float32"),
        (
            *({}, {}, {"cameras": (torch.zeros(2).long(), torch.zeros(2).long())}),
            *(BankValueError, r"gallery cameras have shape \(2,\); expected \(3,\)"),
        ),
    ],
)
def test_query_gallery__refuses(queries, gallery, options, error, message):
    queries, gallery = (
        SimpleNamespace(**(vars(whole) | changed)) for whole, changed in ((QUERIES, queries), (GALLERY, gallery))
    )
    with pytest.raises(error, match=message):
        evaluation.query_gallery(queries, gallery, **options)


@pytest.mark.plain
def test_scores__refuse_groups_and_draws_that_do_not_fit():
    scores = evaluation.query_gallery(QUERIES, GALLERY)
    with pytest.raises(BankValueError, match=r"groups has shape \(3,\); expected one number for each of 2 queries"):
        scores.by_group(torch.zeros(3))
    with pytest.raises(BankValueError, match="draws is 0"):
        evaluation.random_gallery(torch.eye(2), torch.tensor([0, 0]), draws=0)
    with pytest.raises(BankValueError, match="none of the 0 queries"):
        evaluation.random_gallery(torch.eye(2), torch.tensor([0, 1]))
