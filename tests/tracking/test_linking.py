"""Several videos through one linker, and what is said of the past."""

import numpy as np
import pytest

from small_video import FPS, FRAMES, RED_IS_GONE, colors_of_lines, mot_lines
from torchbank.errors import BankValueError
from torchbank.tracking import (
    Appearances,
    ByteTrack,
    IdentityGallery,
    IdentityLinker,
    Timed,
    link_footage,
    observe,
    one_after_the_other,
    read_detections,
)


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linking")
    (folder / "boxes.txt").write_text("".join(mot_lines()))
    np.save(folder / "colors.npy", colors_of_lines())
    return observe(
        video=None,
        detections=read_detections(folder / "boxes.txt", folder / "colors.npy"),
        detector=None,
        embedder=None,
        tracker=ByteTrack(buffer=10),
    )


def linker(**options):
    return IdentityLinker(IdentityGallery(3), threshold=0.8, **options)


def test_link_footage__who_returns_gets_the_old_identity(footage):
    at_the_time, corrected = link_footage(linker(), [Timed("cam", footage, FPS)])
    red = footage.embeddings.argmax(axis=1) == 0
    assert len(np.unique(footage.track_ids)) == 3
    (red_identity,) = np.unique(corrected.identities[red])
    (blue_identity,) = np.unique(corrected.identities[~red])
    assert red_identity != blue_identity
    # At the time, the first frames after the return were not yet decided.
    provisional = at_the_time.identities != corrected.identities
    assert 0 < provisional.sum() < 10
    assert (footage.frames[provisional] >= RED_IS_GONE.stop).all()
    assert np.array_equal(corrected.times, (footage.frames - 1) / FPS)


def test_link_footage__one_video_after_the_other_shares_identities(footage):
    videos = one_after_the_other([Timed("mon", footage, FPS), Timed("tue", footage, FPS)], {})
    assert [video.start for video in videos] == [0, FRAMES / FPS]
    _, corrected = link_footage(linker(), videos)
    assert len(np.unique(corrected.identities)) == 2
    by_video = [set(corrected.identities[corrected.sources == place].tolist()) for place in (0, 1)]
    assert by_video[0] == by_video[1]


def test_link_footage__nobody_is_in_two_videos_at_once(footage):
    videos = one_after_the_other([Timed("a", footage, FPS), Timed("b", footage, FPS)], {"a": 0, "b": 0})
    _, apart = link_footage(linker(), videos)
    by_video = [set(apart.identities[apart.sources == place].tolist()) for place in (0, 1)]
    blue = footage.embeddings.argmax(axis=1) == 2
    everywhere = np.concatenate([blue, blue])
    assert len(set(apart.identities[everywhere].tolist())) == 2
    _, together = link_footage(linker(overlapping=[("a", "b")]), videos)
    assert len(set(together.identities[everywhere].tolist())) == 1
    assert by_video[0] != by_video[1]


def test_link_footage__keeps_what_was_linked_before_ctrl_c(footage):
    def stop(done, _):
        if done == 50:
            raise KeyboardInterrupt

    _, corrected = link_footage(linker(), [Timed("cam", footage, FPS)], on_frame=stop)
    assert (corrected.identities[footage.frames <= 50] > 0).all()
    assert (corrected.identities[footage.frames > 50] == -1).all()


@pytest.mark.plain
def test_one_after_the_other__refuses_starts_that_do_not_fit(footage):
    videos = [Timed("a", footage, FPS), Timed("b", footage, FPS)]
    for starts in ({"a": 0.0}, {"a": 0.0, "b": 1.0, "c": 2.0}):
        with pytest.raises(BankValueError, match="expected one for each of a, b, or none"):
            one_after_the_other(videos, starts)


def appearances(**changed):
    columns = {
        "names": ("a", "b"),
        "sources": [0, 0, 0, 1, 0],
        "frames": [1, 2, 30, 5, 2],
        "times": [0.0, 0.1, 2.9, 3.5, 0.1],
        "track_ids": [4, 4, 4, 4, 9],
        "identities": [1, 1, 1, 1, 0],
        "boxes": np.zeros((5, 4)),
        "scores": np.ones(5),
        "classes": np.zeros(5, dtype=int),
    }
    columns = {name: np.array(c) if name != "names" else c for name, c in {**columns, **changed}.items()}
    return Appearances(**columns)


def test_visits__end_with_the_track_the_source_or_an_absence():
    found = [(v.identity, v.source, v.track_id, v.rows.tolist(), v.begin, v.end) for v in appearances().visits(1.0)]
    assert found == [(1, 0, 4, [0, 1], 0.0, 0.1), (1, 0, 4, [2], 2.9, 2.9), (1, 1, 4, [3], 3.5, 3.5)]
    assert [v.rows.tolist() for v in appearances().visits(10.0)] == [[0, 1, 2], [3]]
    assert appearances(identities=[0] * 5).visits() == []


def test_histories__are_what_json_holds():
    (history,) = appearances().histories()
    assert history["identity"] == 1
    assert [visit["source"] for visit in history["visits"]] == ["a", "a", "b"]
    assert history["visits"][0] == {
        "source": "a",
        "track_id": 4,
        "first_frame": 1,
        "last_frame": 2,
        "begin_seconds": 0.0,
        "end_seconds": 0.1,
        "boxes": 2,
    }


@pytest.mark.plain
def test_appearances__refuse_columns_of_different_lengths():
    with pytest.raises(BankValueError, match="scores 4"):
        appearances(scores=np.ones(4))
