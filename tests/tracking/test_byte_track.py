"""What the tracker joins, and what it forgets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchbank.errors import BankValueError
from torchbank.tracking._byte_track import ByteTrack, assign

NOTHING = (np.zeros((0, 4)), np.zeros(0))


def boxes_at(*places):
    return np.array([[x, 0.0, x + 20, 50.0] for x in places]).reshape(-1, 4)


def scores(*values):
    return np.array(values, dtype=float)


def test_update__two_who_pass_each_other_at_a_distance_keep_their_ids():
    tracker = ByteTrack()
    for step in range(40):
        boxes = boxes_at(5 * step, 400 - 5 * step) + np.array([[0, 0, 0, 0], [0, 80, 0, 80]])
        ids = tracker.update(boxes, scores(0.9, 0.9))
        assert ids.tolist() == [1, 2]


def test_update__unsure_boxes_keep_a_track_and_begin_none():
    tracker = ByteTrack()
    tracker.update(boxes_at(0), scores(0.9))
    assert tracker.update(boxes_at(1, 300), scores(0.3, 0.3)).tolist() == [1, -1]
    assert tracker.update(boxes_at(1, 300), scores(0.65, 0.65)).tolist() == [1, -1]
    assert tracker.update(boxes_at(1), scores(0.05)).tolist() == [-1]


@pytest.mark.parametrize("buffer", [3, 30])
def test_update__a_track_is_kept_for_the_buffer_and_then_forgotten(buffer):
    for missed, same in ((buffer, True), (buffer + 1, False)):
        tracker = ByteTrack(buffer=buffer)
        for _ in range(3):
            tracker.update(boxes_at(0), scores(0.9))
        for _ in range(missed):
            assert tracker.update(*NOTHING).shape == (0,)
        assert (tracker.update(boxes_at(0), scores(0.9)).tolist() == [1]) is same


def test_update__a_lost_track_goes_on_moving():
    tracker = ByteTrack()
    for step in range(20):
        tracker.update(boxes_at(4 * step), scores(0.9))
    for _ in range(10):
        tracker.update(*NOTHING)
    assert tracker.update(boxes_at(4 * 30), scores(0.9)).tolist() == [1]


def test_update__a_track_of_one_frame_is_dropped_at_once():
    tracker = ByteTrack()
    tracker.update(*NOTHING)
    assert tracker.update(boxes_at(0), scores(0.9)).tolist() == [1]
    tracker.update(*NOTHING)
    assert tracker.update(boxes_at(0), scores(0.9)).tolist() == [2]


def test_update__another_class_is_another_object():
    tracker = ByteTrack()
    for _ in range(3):
        assert tracker.update(boxes_at(0), scores(0.9), np.array([7])).tolist() == [1]
    assert tracker.update(boxes_at(0), scores(0.9), np.array([8])).tolist() == [2]


@given(seed=st.integers(0, 200))
def test_update__no_id_twice_in_a_frame_and_none_again_after_it_was_forgotten(seed):
    random = np.random.default_rng(seed)
    tracker = ByteTrack(buffer=3)
    last = {}
    for frame in range(30):
        count = random.integers(0, 8)
        ids = tracker.update(boxes_at(*random.uniform(0, 120, count)), random.uniform(0, 1, count))
        known = ids[ids > 0].tolist()
        assert len(set(known)) == len(known)
        for given_id in known:
            assert frame - last.get(given_id, frame) <= 4
            last[given_id] = frame


def test_assign__leaves_pairs_that_are_worth_too_little():
    assert assign(np.array([[0.9, 0.8], [0.8, 0.1]]), 0.2) == [(0, 1), (1, 0)]
    assert assign(np.array([[0.9, 0.3], [0.3, 0.1]]), 0.2) == [(0, 0)]
    assert assign(np.zeros((0, 3)), 0.2) == []


@pytest.mark.plain
@pytest.mark.parametrize("options", [{"buffer": 0}, {"high_score": 0.05}, {"low_score": -0.1}])
def test_byte_track__refuses(options):
    with pytest.raises(BankValueError, match="expected 1 or more"):
        ByteTrack(**options)
