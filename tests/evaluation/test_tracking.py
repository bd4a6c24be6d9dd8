"""Tracking scores against hand-computed cases and against their definitions in plain Python."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbank import evaluation
from torchbank.errors import BankTypeError, BankValueError
from torchbank.evaluation import Tracks, open_set, reassociation, tracking_scores


def at(places):
    """Boxes of ten pixels that overlap only where their places agree."""
    return np.array([[20 * place, 0, 20 * place + 10, 10] for place in places], dtype=float).reshape(-1, 4)


def one_at_a_time(true_ids, ids):
    """Perfect boxes, one object in each frame."""
    frames = np.arange(1, len(ids) + 1)
    return Tracks(frames, np.array(true_ids), at([0] * len(ids))), Tracks(frames, np.array(ids), at([0] * len(ids)))


def test_scores__perfect():
    frames, ids, boxes = np.array([1, 1, 2, 2]), np.array([1, 2, 1, 2]), at([0, 1, 0, 1])
    scores = tracking_scores((frames, ids, boxes), (frames, ids + 40, boxes))
    assert scores.as_dict() == {
        **dict.fromkeys(("hota", "det_a", "ass_a", "ass_re", "ass_pr", "idf1", "mota"), 1.0),
        **{"id_switches": 0, "ids": 2, "true_ids": 2},
    }


def test_scores__an_id_split_in_two_halves_was_forgotten():
    scores = tracking_scores(*one_at_a_time([1, 1, 1, 1], [7, 7, 8, 8]))
    assert scores.hota == pytest.approx(0.5**0.5)
    assert (scores.det_a, scores.ass_a, scores.ass_re, scores.ass_pr) == (1, 0.5, 0.5, 1)
    assert (scores.idf1, scores.mota, scores.id_switches) == (0.5, 0.75, 1)
    assert (scores.ids, scores.true_ids) == (2, 1)


def test_scores__two_objects_under_one_id_were_confused():
    scores = tracking_scores(*one_at_a_time([1, 1, 2, 2], [7, 7, 7, 7]))
    assert (scores.ass_a, scores.ass_re, scores.ass_pr) == (0.5, 1, 0.5)
    # The one id maps to one of the two objects: 2 right, 2 false, 2 missed. CLEAR sees nothing.
    assert (scores.idf1, scores.mota, scores.id_switches) == (0.5, 1, 0)


def test_scores__missed_and_false_boxes():
    truth = (np.array([1, 2, 3]), np.array([1, 1, 1]), at([0, 0, 0]))
    output = (np.array([1, 2, 2, 9]), np.array([1, 1, 2, 2]), at([0, 0, 5, 5]))
    scores = tracking_scores(truth, output)
    # TP 2, FN 1, FP 2.
    assert scores.det_a == pytest.approx(2 / 5)
    assert scores.ass_a == pytest.approx(2 / 3)
    assert scores.mota == pytest.approx(1 - 3 / 3)
    assert scores.idf1 == pytest.approx(2 * 2 / (2 * 2 + 2 + 1))


def test_scores__localisation_lowers_hota_alone():
    truth, output = one_at_a_time([1, 1], [1, 1])
    # Overlap 6 of 10 in one direction: right up to a threshold of 0.6, 12 of 19 of them.
    output = output._replace(boxes=np.array([[0.0, 0.0, 6.0, 10.0]] * 2))
    scores = tracking_scores(truth, output)
    assert scores.hota == pytest.approx(12 / 19)
    assert scores.idf1 == scores.mota == 1
    assert tracking_scores(truth, output, iou=0.7).idf1 == 0


@given(rows=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=12))
def test_scores__equal_their_definitions_where_boxes_are_perfect(rows):
    true_ids, ids = [row[0] for row in rows], [row[1] for row in rows]
    pairs, of_truth, of_output = Counter(rows), Counter(true_ids), Counter(ids)
    agreement = [pairs[a, b] / (of_truth[a] + of_output[b] - pairs[a, b]) for a, b in rows]
    right = max(sum(pairs[a, b] for a, b in zip((1, 2, 3), order, strict=True)) for order in permutations((1, 2, 3)))
    last, switches = {}, 0
    for a, b in rows:
        switches += last.get(a, b) != b
        last[a] = b
    scores = tracking_scores(*one_at_a_time(true_ids, ids))
    assert scores.ass_a == pytest.approx(np.mean(agreement))
    assert scores.hota == pytest.approx(np.mean(agreement) ** 0.5)
    assert scores.idf1 == pytest.approx(right / len(rows))
    assert scores.id_switches == switches
    assert scores.mota == pytest.approx(1 - switches / len(rows))


def test_scores__rows_in_any_order_and_ids_of_any_size():
    random = np.random.default_rng(0)
    frames = np.repeat(np.arange(50), 3)
    truth = Tracks(frames, np.tile([1, 2, 3], 50), at(np.tile([0, 1, 2], 50)))
    output = truth._replace(ids=np.where(frames < 20, truth.ids, truth.ids + 2**40))
    scores = tracking_scores(truth, output)
    shuffled = [Tracks(*(column[order] for column in rows)) for rows in (truth, output)
                for order in [random.permutation(150)]]  # fmt: skip
    assert tracking_scores(*shuffled) == scores
    assert tracking_scores(*(tuple(map(torch.as_tensor, rows)) for rows in (truth, output))) == scores


def test_scores__an_empty_output():
    truth, _ = one_at_a_time([1, 1], [1, 1])
    scores = tracking_scores(truth, ([], [], []))
    assert (scores.hota, scores.idf1, scores.mota, scores.ids) == (0, 0, 0, 0)


FRAMES, IDS, BOXES = np.array([1, 1]), np.array([1, 2]), at([0, 1])


@pytest.mark.plain
@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        ((FRAMES, IDS[:1], BOXES), BankValueError, r"ids \(1,\) and boxes \(2, 4\)"),
        ((FRAMES, IDS, BOXES[:, :3]), BankValueError, r"boxes \(2, 3\); expected \(n,\), \(n,\), \(n, 4\)"),
        ((FRAMES, IDS / 2, BOXES), BankTypeError, "ids of output are float64"),
        ((FRAMES, IDS, -BOXES), BankValueError, r"the box \[-0.0, -0.0, -10.0, -10.0\] in row 0"),
        ((FRAMES, IDS, BOXES * np.nan), BankValueError, "expected finite x1 <= x2"),
        ((FRAMES, IDS * 0, BOXES), BankValueError, "output has id 0 twice in frame 1"),
    ],
)
def test_scores__refuse(output, error, message):
    with pytest.raises(error, match=message):
        tracking_scores((FRAMES, IDS, BOXES), output)


@pytest.mark.plain
def test_scores__refuse_an_empty_truth():
    with pytest.raises(BankValueError, match="the truth has no rows"):
        tracking_scores(([], [], []), (FRAMES, IDS, BOXES))


def test_open_set__each_arrival_once():
    # Visits: 1, then 2 (new), then 1 again, then 3 (new), then 2 again.
    frames = np.array([0, 1, 100, 101, 200, 201, 300, 301, 400, 401])
    truth = Tracks(frames, np.array([1, 1, 2, 2, 1, 1, 3, 3, 2, 2]), at([0] * 10))
    for ids, merge_rate, miss_rate in (
        ([5, 5, 6, 6, 5, 5, 7, 7, 6, 6], 0.0, 0.0),
        ([5, 5, 6, 6, 7, 7, 8, 8, 9, 9], 0.0, 1.0),
        ([5, 5, 5, 5, 5, 5, 5, 5, 5, 5], 1.0, 0.0),
        # Person 3 gets the id of person 2, who then gets a new one.
        ([5, 5, 6, 6, 5, 5, 6, 6, 9, 9], 0.5, 0.5),
    ):
        scores = open_set(truth, truth._replace(ids=np.array(ids)))
        assert scores == evaluation.OpenSetScores(merge_rate, miss_rate, newcomers=2, returns=2)


def test_open_set__a_provisional_id_does_not_count():
    frames = np.array([0, 1, 2, 100, 101, 102])
    truth = Tracks(frames, np.ones(6, dtype=int), at([0] * 6))
    scores = open_set(truth, truth._replace(ids=np.array([5, 5, 5, 8, 5, 5])))
    assert (scores.miss_rate, scores.returns) == (0.0, 1)
    assert open_set(truth, truth, absence=98).returns == 0


def test_open_set__an_arrival_without_a_box():
    frames = np.array([0, 100, 200])
    truth = Tracks(frames, np.array([1, 2, 1]), at([0, 0, 0]))
    scores = open_set(truth, (frames[:1], np.array([4]), at([0])))
    # Nobody was merged with anybody, and who returned was missed.
    assert scores == evaluation.OpenSetScores(0.0, 1.0, newcomers=1, returns=1)
    assert open_set(([], [], []), ([], [], [])) == evaluation.OpenSetScores(None, None, 0, 0)


def test_open_set__boxes_are_matched_by_the_most_overlap():
    truth = Tracks(np.array([0, 0, 50, 50]), np.array([1, 2, 1, 2]), at([0, 0.1, 0, 0.1]))
    output = Tracks(np.array([0, 0, 50, 50]), np.array([8, 9, 8, 9]), at([0, 0.1, 0, 0.1]))
    assert open_set(truth, output).miss_rate == 0
    assert open_set(truth, output._replace(ids=np.array([8, 9, 9, 8]))).miss_rate == 1


@pytest.mark.plain
def test_open_set__refuses():
    with pytest.raises(BankValueError, match="absence is -1"):
        open_set((FRAMES, IDS, BOXES), (FRAMES, IDS, BOXES), absence=-1)


def slow_reassociation(embeddings, ids, frames, gap, stride):
    rows = embeddings.double() / embeddings.double().norm(dim=1, keepdim=True)
    ranks = []
    for query in range(len(ids)):
        candidates = [row for row in range(len(ids)) if frames[row] == frames[query] + gap]
        right = [row for row in candidates if ids[row] == ids[query]]
        if frames[query] % stride == 0 and len(candidates) > 1 and right:
            score = float(rows[query] @ rows[right[0]])
            ranks.append(1 + sum(float(rows[query] @ rows[row]) >= score for row in candidates if row != right[0]))
    return ranks


@pytest.mark.parametrize("stride", [1, 3])
def test_reassociation__equals_the_definition(stride):
    generator = torch.Generator().manual_seed(0)
    people = torch.randn(6, 8, generator=generator)
    ids = torch.arange(6).repeat(40)
    frames = torch.arange(40).repeat_interleave(6)
    present = torch.rand(240, generator=generator) < 0.6
    embeddings = (people[ids] + 1.5 * torch.randn(240, 8, generator=generator))[present]
    ids, frames = ids[present], frames[present]
    order = torch.randperm(len(ids), generator=generator)
    for result in reassociation(embeddings[order], ids[order], frames[order], gaps=(1, 7, 39), stride=stride):
        ranks = slow_reassociation(embeddings, ids.tolist(), frames.tolist(), result.gap, stride)
        assert result.queries == len(ranks) > 0
        assert result.rank_1 == pytest.approx(np.mean([rank == 1 for rank in ranks]))
        assert result.mean_reciprocal_rank == pytest.approx(np.mean([1 / rank for rank in ranks]))


def test_reassociation__embeddings_all_alike_earn_nothing():
    ids, frames = torch.tensor([1, 2, 1, 2]), torch.tensor([0, 0, 5, 5])
    (result,) = reassociation(torch.ones(4, 3), ids, frames, gaps=(5,))
    assert (result.rank_1, result.mean_reciprocal_rank) == (0, 0.5)


def test_reassociation__one_candidate_is_no_question():
    (result,) = reassociation(torch.ones(2, 3), [1, 1], [0, 5], gaps=(5,))
    assert result == evaluation.Reassociation(5, None, None, 0)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("embeddings", "options", "error", "message"),
    [
        (torch.ones(2, 3, dtype=torch.int64), {}, BankTypeError, "torch.int64"),
        (torch.ones(3, 3), {}, BankValueError, r"ids \(2,\)"),
        (torch.ones(2, 3), {"gaps": (0,)}, BankValueError, r"gaps are \(0,\)"),
        (torch.tensor([[1.0], [0.0]]), {}, BankValueError, "1 of 2 .* first in row 1"),
    ],
)
def test_reassociation__refuses(embeddings, options, error, message):
    with pytest.raises(error, match=message):
        reassociation(embeddings, [1, 1], [0, 5], **options)
