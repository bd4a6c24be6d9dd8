"""The linker: evidence, joint decisions, who can be whom, what stays, and going on after a crash."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from torchbank.errors import BankError, BankStateError, BankTypeError, BankValueError, FileFormatError
from torchbank.tracking import IdentityGallery, IdentityLinker

DIM = 16
RANDOM = np.random.default_rng(0)
PEOPLE = np.linalg.qr(RANDOM.normal(size=(DIM, DIM)))[0]  # no two alike


def linker_of(gallery=None, **options):
    options = {"threshold": 0.7, "evidence_frames": 2, "looks": 2, **options}
    return IdentityLinker(IdentityGallery(DIM) if gallery is None else gallery, **options)


def show(linker, people, frames, **given):
    """Show {track: person} for some frames; the identities and whether they are final, after the last."""
    for frame in frames:
        rows = PEOPLE[list(people.values())] if people else None
        seen = linker.update(list(people), rows, frame=frame, **given)
    return dict(zip(people, zip(seen.tolist(), seen.final.tolist(), strict=True), strict=True))


def test_update__gathers_evidence_and_then_gives_the_old_identity_back():
    linker = linker_of()
    assert show(linker, {1: 0, 2: 1}, range(3)) == {1: (1, False), 2: (2, False)}
    assert show(linker, {1: 0, 2: 1}, range(3, 4)) == {1: (1, True), 2: (2, True)}
    show(linker, {}, range(4, 50))
    assert show(linker, {9: 1, 8: 5}, range(50, 51)) == {9: (3, False), 8: (4, False)}
    assert show(linker, {9: 1, 8: 5}, range(51, 52)) == {9: (2, True), 8: (4, False)}
    assert show(linker, {9: 1, 8: 5}, range(52, 54)) == {9: (2, True), 8: (4, True)}
    outcomes = {decision.track_id: decision.outcome for decision in linker.decisions}
    assert outcomes == {1: "new", 2: "new", 9: "returned", 8: "new"}
    assert linker.corrected()["default", 9] == [(2, 50, 53)]


def test_update__two_tracks_that_want_one_identity_share_out_both():
    linker = linker_of(threshold=0.3)
    show(linker, {1: 0, 2: 1}, range(4))
    show(linker, {}, range(4, 6))
    # Both are most like person 0; together they are most like 0 and 1 the other way round.
    rows = np.stack([0.8 * PEOPLE[0] + 0.6 * PEOPLE[1], PEOPLE[0]])
    for frame in (6, 7):
        seen = linker.update([5, 6], rows, frame=frame)
    assert seen.tolist() == [2, 1]


def test_update__an_identity_in_view_is_nobody_elses():
    linker = linker_of()
    show(linker, {1: 0}, range(4))
    assert show(linker, {1: 0, 2: 0}, range(4, 8)) == {1: (1, True), 2: (2, True)}


def test_update__asks_for_a_lead_over_the_second_best():
    for margin, expected in ((0.0, 1), (0.3, 3)):
        linker = linker_of(threshold=0.5, margin=margin)
        show(linker, {1: 0, 2: 1}, range(4))
        row = 0.75 * PEOPLE[0] + 0.66 * PEOPLE[1]
        for frame in range(10, 14):
            seen = linker.update([7], row[None], frame=frame)
        assert seen.tolist() == [expected]


def test_update__an_object_stays_in_its_class():
    linker = linker_of()
    show(linker, {1: 0}, range(4), classes=[0])
    assert show(linker, {2: 0}, range(10, 14), classes=[3])[2][0] == 2
    assert show(linker, {3: 0}, range(20, 24), classes=[0])[3][0] == 1


def test_update__takes_no_evidence_for_none():
    linker = linker_of()
    show(linker, {1: 0}, range(4))
    rows = [np.full(DIM, np.nan), np.zeros(DIM), PEOPLE[0], np.full(DIM, np.inf), PEOPLE[0]]
    finals = []
    for frame, row in enumerate(rows, start=10):
        finals.append(linker.update([2], row[None], frame=frame).final.tolist())
    assert finals == [[False]] * 4 + [[True]]
    assert linker.update([2], None, frame=15).tolist() == [1]
    assert linker.update([-1, 2], np.stack([PEOPLE[3], PEOPLE[0]]), frame=16).tolist() == [-1, 1]


def test_update__embeddings_that_cancel_each_other_are_no_evidence():
    linker = linker_of()
    for frame in range(6):
        seen = linker.update([4, 5], np.stack([(-1) ** frame * PEOPLE[0], PEOPLE[1]]), frame=frame)
    assert seen.final.tolist() == [False, True]
    assert len(linker.gallery) == 1
    for frame in range(6, 10):
        seen = linker.update([4], PEOPLE[:1], frame=frame)
    assert seen.final.tolist() == [True]


def test_update__bad_boxes_are_no_evidence():
    linker = linker_of(IdentityGallery(DIM, min_score=0.5), min_height=20)
    good = [0, 0, 10, 30]
    for boxes, scores in (
        ([[-50, 0, -10, 30]], [1]), ([[0, 0, 10, 10]], [1]), ([[5, 5, 5, 5]], [1]), ([[0, 0, np.nan, 30]], [1]),
        ([good], [0.4]),
    ):  # fmt: skip
        assert not linker.update([1], PEOPLE[:1], boxes=boxes, scores=scores).final.any()
    covered = [good, [2, 0, 12, 30]]
    assert not linker.update([1, 2], PEOPLE[:2], boxes=covered).final.any()
    for _ in range(4):
        seen = linker.update([1], PEOPLE[:1], boxes=[good])
    assert seen.final.all()


def test_update__a_decision_stays_and_an_id_of_the_tracker_is_reused_after_long():
    linker = linker_of(lost_frames=20)
    show(linker, {1: 0}, range(4))
    # The tracker's own track is trusted, whatever it looks like later.
    assert show(linker, {1: 5}, range(4, 10))[1] == (1, True)
    show(linker, {}, range(10, 40))
    assert show(linker, {1: 7}, range(40, 44))[1] == (2, True)
    assert [span.identity for span in linker.corrected()["default", 1]] == [1, 2]


def test_sources__one_identity_is_live_once_unless_views_overlap():
    for overlapping, expected in (((), 2), ((pair for pair in [("a", "b")]), 1)):
        linker = linker_of(overlapping=overlapping)
        for frame in range(6):
            here = linker.update([1], PEOPLE[:1], frame=frame, source="a")
            there = linker.update([1], PEOPLE[:1], frame=frame, source="b") if frame > 1 else None
        assert here.tolist() == [1]
        assert there.tolist() == [expected]


def test_sources__nobody_travels_faster_than_possible():
    for seconds, expected in ((2.0, 2), (20.0, 1)):
        linker = linker_of(travel_time={("a", "b"): 10.0}, fps=10)
        show(linker, {1: 0}, range(4), source="a")
        linker.update([], None, frame=4, source="a")
        start = round(10 * seconds)
        assert show(linker, {1: 0}, range(start, start + 4), source="b")[1] == (expected, True)


def test_gallery__may_be_changed_by_hand_meanwhile():
    linker = linker_of()
    show(linker, {1: 0, 2: 1}, range(4))
    linker.gallery.rename(1, 70)
    assert show(linker, {1: 0, 2: 1}, range(4, 5))[1] == (70, True)
    show(linker, {}, range(5, 9))
    linker.gallery.merge(70, 2)
    assert show(linker, {1: 0}, range(9, 10))[1] == (70, True)
    assert linker.corrected()["default", 2][0].identity == 70
    linker.gallery.forget(70)
    identity, final = show(linker, {1: 0}, range(10, 11))[1]
    assert identity not in (1, 2, 70)
    assert not final


def test_gallery__full_of_live_identities_leaves_a_track_undecided():
    linker = linker_of(IdentityGallery(DIM, max_identities=2))
    show(linker, {1: 0, 2: 1}, range(4))
    assert show(linker, {1: 0, 2: 1, 3: 2}, range(4, 12))[3] == (3, False)
    # One leaves, and gives way.
    assert show(linker, {2: 1, 3: 2}, range(12, 16))[3] == (3, True)
    assert linker.gallery.identities.tolist() == [2, 3]


def test_self_calibration__gives_nobody_back_by_random_embeddings():
    linker = IdentityLinker(IdentityGallery(DIM))
    random = np.random.default_rng(0)
    for frame in range(600):
        tracks = 100 * (frame // 100) + np.arange(6)
        linker.update(tracks, random.normal(size=(6, DIM)), frame=frame)
    assert linker.threshold == np.inf
    assert {decision.outcome for decision in linker.decisions} == {"new"}


def test_self_calibration__finds_a_threshold_while_it_runs():
    linker = IdentityLinker(IdentityGallery(DIM))
    random = np.random.default_rng(0)
    for frame in range(600):
        tracks = 100 * (frame // 100) + np.arange(6)
        linker.update(tracks, PEOPLE[:6] + 0.1 * random.normal(size=(6, DIM)), frame=frame)
    assert 0.2 < linker.threshold < 0.95
    assert [d.outcome for d in linker.decisions[:6]] == ["new"] * 6
    assert {d.outcome for d in linker.decisions[6:]} == {"returned"}
    assert len(linker.gallery) == 6


# Files


def stream(linker, frames):
    """A crowd that comes and goes, two cameras, a threshold that is learned."""
    said = []
    for frame in frames:
        random = np.random.default_rng((7, frame))
        people = (frame // 40 + np.arange(6)) % DIM
        tracks = people + 100 * (frame // 120)
        rows = PEOPLE[people] + 0.15 * random.normal(size=(6, DIM))
        said.append(linker.update(tracks, rows, frame=frame, time=frame / 10, source="ab"[frame % 2]).tolist())
    return said


CRASH = """
import os, signal, sys
sys.path.append(sys.argv[1])
from test_linker import IdentityGallery, IdentityLinker, DIM, stream
linker = IdentityLinker(IdentityGallery(DIM, 40, 4), overlapping=[("a", "b")], write_every=8)
stream(linker, range(250))
linker.save(sys.argv[2])
print(stream(linker, range(250, 400)), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.plain
def test_load__goes_on_after_kill_9_as_if_nothing_had_happened(tmp_path):
    path = tmp_path / "linker.safetensors"
    words = [sys.executable, "-c", CRASH, os.path.dirname(__file__), path]  # noqa: PTH120
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    linker = IdentityLinker.load(path)
    assert str(stream(linker, range(250, 400))) == done.stdout.strip()
    assert len(linker.gallery) > 6
    assert linker.corrected()
    linker.gallery.close()


@pytest.mark.plain
def test_load__refuses_a_file_without_a_linker_and_a_damaged_one(tmp_path):
    path = tmp_path / "a.safetensors"
    with IdentityGallery(DIM) as gallery:
        gallery.save(path)
    with pytest.raises(FileFormatError, match="holds a gallery alone"):
        IdentityLinker.load(path)
    with IdentityGallery(DIM) as gallery:
        linker = linker_of(gallery)
        show(linker, {1: 0}, range(4))
        linker.save(path)
        with pytest.raises(BankStateError, match="open for writing elsewhere"):
            IdentityLinker.load(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FileFormatError):
        IdentityLinker.load(path)


MISTAKES = {
    "length": (([1], np.ones((1, 3))), {}, BankValueError, "Did another embedder make them"),
    "integers": (([1], np.ones((1, DIM), dtype=int)), {}, BankTypeError, "expected a floating dtype"),
    "count": (([1, 2], PEOPLE[:1]), {}, BankValueError, "1 embeddings for 2 track ids"),
    "track twice": (([1, 1], PEOPLE[:2]), {}, BankValueError, "track 1 is in one frame 2 times"),
    "half a track": (([1.5], PEOPLE[:1]), {}, BankValueError, "expected whole numbers"),
    "boxes": (([1], PEOPLE[:1]), {"boxes": np.ones((2, 4))}, BankValueError, r"boxes have shape \(2, 4\)"),
    "scores": (([1], PEOPLE[:1]), {"scores": [1, 1]}, BankValueError, "scores have shape"),
    "frame": (([1], PEOPLE[:1]), {"frame": 3}, BankValueError, "frame 3 of 'default' comes after frame 3"),
    "time": (([1], PEOPLE[:1]), {"time": np.inf}, BankValueError, "expected seconds"),
}


@pytest.mark.plain
@pytest.mark.parametrize("mistake", MISTAKES)
def test_update__refuses_a_bad_frame_and_changes_nothing(mistake):
    given, options, error, message = MISTAKES[mistake]
    linker, twin = linker_of(), linker_of()
    for one in (linker, twin):
        show(one, {1: 0}, range(4))
    with pytest.raises(error, match=message):
        linker.update(*given, **options)
    assert show(linker, {1: 0, 2: 1}, range(4, 9)) == show(twin, {1: 0, 2: 1}, range(4, 9))
    assert linker.gallery.moment == twin.gallery.moment


@pytest.mark.plain
def test_linker__refuses_what_cannot_be():
    for options in ({"evidence_frames": 0}, {"max_overlap": 2.0}, {"fps": 0.0}, {"overlapping": [("a", "a")]},
                    {"overlapping": ["ab"]}, {"travel_time": {("a", "b"): -1.0}}, {"history": 0}):  # fmt: skip
        with pytest.raises(BankError):
            linker_of(**options)
    with pytest.raises(BankValueError, match=r"osnet.*resnet"):
        linker_of(IdentityGallery(DIM, fingerprint="osnet"), fingerprint="resnet")
    with pytest.raises(BankValueError, match="give update a time="):
        linker_of(travel_time={("a", "b"): 5.0}).update([1], PEOPLE[:1])


def test_ended__starts_a_source_anew():
    linker = linker_of()
    show(linker, {1: 0}, range(4))
    linker.ended()
    # The same number is another track now, and its frames begin again.
    assert show(linker, {1: 5}, range(4))[1] == (2, True)
    linker.ended("never seen")
