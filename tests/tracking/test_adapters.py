"""Trackers' own results in, the same with identities out; columns are found as the packages document them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from torchbank.errors import BankError, BankKeyError, BankValueError, FileFormatError
from torchbank.tracking import IdentityGallery, IdentityLinker, read_mot, virtual_pillar, write_mot

PEOPLE = np.eye(8, dtype=np.float32)
BOXES = np.array([[0.0, 0, 10, 30], [50, 0, 60, 30]])
# Two tracks, an absence, and the second of them back as track 9.
SHOWN = [([7, 8], [0, 1])] * 4 + [([], [])] * 3 + [([9], [1])] * 4
AT_THE_END = [2]


def linker_of(**options):
    return IdentityLinker(IdentityGallery(8), threshold=0.7, evidence_frames=2, looks=1, **options)


class Result:
    """Ultralytics' ``Results`` as far as they are used: boxes.data is x1 y1 x2 y2 id conf cls."""

    def __init__(self, tracks, people):
        rows = [[*BOXES[place], track, 0.9, 0] for place, track in enumerate(tracks)]
        self.orig_img, self.obb = people, None
        self.update(torch.tensor(rows, dtype=torch.float32).reshape(-1, 7))

    def update(self, boxes):
        found = SimpleNamespace(data=boxes, xyxy=boxes[:, :4], conf=boxes[:, -2], cls=boxes[:, -1])
        found.id = boxes[:, 4] if len(boxes) else None
        self.boxes = found


def test_ultralytics__results_carry_identities():
    linker = linker_of(embedder=lambda people, boxes: PEOPLE[people])
    for tracks, people in SHOWN:
        result = linker.ultralytics(Result(tracks, people), source="hall")
    assert result.boxes.id.tolist() == AT_THE_END
    assert result.boxes.conf.tolist() == pytest.approx([0.9])


def test_ultralytics_tracker__links_by_the_vectors_it_is_given():
    class Tracker:
        name = "botsort"

        def update(self, detections, image, feats=None):
            # The last detection first: the last column says which row each track is.
            tracks = [[*BOXES[i], track, 0.9, 0, i] for i, track in enumerate(detections)]
            return np.array(tracks[::-1]).reshape(-1, 8)

    linker = linker_of()
    tracker = linker.ultralytics_tracker(Tracker())
    assert tracker.name == "botsort"
    for tracks, people in SHOWN:
        rows = tracker.update(tracks, None, feats=PEOPLE[people])
    # The row that came first was that of track 8.
    assert rows[:, 4].tolist() == [1]


def test_supervision__keeps_the_raw_ids_beside_identities():
    linker = linker_of()
    for tracks, people in SHOWN:
        detections = SimpleNamespace(
            xyxy=BOXES[: len(tracks)], confidence=np.ones(len(tracks)), class_id=np.zeros(len(tracks), int),
            tracker_id=np.array(tracks, dtype=int) if tracks else None, data={"embedding": PEOPLE[people]},
        )  # fmt: skip
        linker.supervision(detections)
    assert detections.tracker_id.tolist() == AT_THE_END
    assert detections.data["raw_tracker_id"].tolist() == [9]


def test_boxmot__picks_the_embedding_of_each_detection():
    linker = linker_of()
    for tracks, people in SHOWN:
        rows = np.array([[*BOXES[i], track, 0.9, 0, len(tracks) - 1 - i] for i, track in enumerate(tracks)])
        out = linker.boxmot(rows, PEOPLE[people[::-1]])
    assert out[:, 4].tolist() == AT_THE_END
    lost = np.array([[*BOXES[0], 9, 0.9, 0, -1]])  # predicted, no detection
    assert linker.boxmot(lost, PEOPLE[:0]).shape == (1, 8)


def test_link_all__takes_columns_in_any_order():
    rows = [(frame, track, person) for frame, shown in enumerate(SHOWN) for track, person in zip(*shown, strict=True)]
    order = np.random.default_rng(0).permutation(len(rows))
    frames, tracks, people = np.array(rows)[order].T
    identities = linker_of().link_all(frames, tracks, PEOPLE[people])
    assert set(identities[(tracks == 9) & (frames == 10)].tolist()) == {2}
    assert len(linker_of().link_all(np.zeros(0, int), np.zeros(0, int), None)) == 0


def test_mot__is_read_as_it_was_written(tmp_path):
    random = np.random.default_rng(0)
    frames, ids = np.array([3, 1, 1]), np.array([1, 2, -1])
    boxes = random.uniform(0, 50, (3, 4)).round(2)
    boxes[:, 2:] += boxes[:, :2]
    write_mot(tmp_path / "a.txt", frames, ids, boxes, np.array([0.5, 0.25, 1.0]))
    rows = read_mot(tmp_path / "a.txt")
    assert (rows.frames.tolist(), rows.track_ids.tolist(), rows.scores.tolist()) == ([1, 3], [2, 1], [0.25, 0.5])
    np.testing.assert_allclose(rows.boxes, boxes[[1, 0]], atol=0.011)
    (tmp_path / "spaces.txt").write_text("1 -1 10 20 5 5\n\n2 -1 10 20 5 5 0.5\n")
    assert read_mot(tmp_path / "spaces.txt").scores.tolist() == [1.0, 0.5]


def test_virtual_pillar__counts_who_comes_back():
    random = np.random.default_rng(0)
    frames, tracks = np.repeat(np.arange(100), 20), np.tile(np.arange(20), 100)
    who = random.normal(size=(20, 128))[tracks]
    pillar = virtual_pillar(frames, tracks, who + 0.3 * random.normal(size=(2000, 128)), [1.0], 30.0)
    assert pillar.raw.trials.tolist() == [20]
    assert pillar.raw.recovery.tolist() == [1.0]
    assert pillar.raw.confused.tolist() == [0]


@pytest.mark.plain
def test_adapters__tell_what_is_missing(tmp_path):
    linker = linker_of()
    found = SimpleNamespace(xyxy=BOXES, confidence=None, class_id=None, tracker_id=None, data={})
    with pytest.raises(BankValueError, match="have no tracker_id"):
        linker.supervision(found)
    found.tracker_id = np.array([1, 2])
    with pytest.raises(BankKeyError, match="put them under detections"):
        linker.supervision(found)
    with pytest.raises(BankValueError, match=r"expected \(m, 8\)"):
        linker.boxmot(np.ones((1, 7)), PEOPLE)
    with pytest.raises(BankValueError, match="points to detection 3 and there are 2"):
        linker.boxmot(np.array([[0.0, 0, 1, 1, 1, 1, 0, 3]]), PEOPLE[:2])
    linker.gallery.rename(linker.gallery.enroll(PEOPLE[0]), 2**25)
    linker.update([5], PEOPLE[:1])
    with pytest.raises(BankValueError, match="not exact in float32"):
        linker.ultralytics(Result([6], [0]), embeddings=PEOPLE[:1])
    for text in ("one,2,3\n", "1.5,1,0,0,5,5\n", "1,1,0,0\n"):
        (tmp_path / "bad.txt").write_text(text)
        with pytest.raises(FileFormatError, match=r"bad.txt, line 1"):
            read_mot(tmp_path / "bad.txt")
    with pytest.raises(BankError):
        write_mot(tmp_path / "a.txt", np.array([1]), np.array([1]), np.zeros((2, 4)))
    with pytest.raises(BankError):
        virtual_pillar(np.arange(3), np.arange(3), np.ones((3, 2)), [0.0], 30.0)
