"""Thresholds without labels: they keep the stated rate, refuse what tells nothing, and are not flattered."""

import numpy as np
import pytest

from torchbank.errors import BankError, BankStateError
from torchbank.tracking import Calibration, Whitening, adapt_and_calibrate, calibrate


def crowd(people, frames=200, dim=64, noise=0.8, seed=0):
    """Everybody in view all the time, tracked without a mistake."""
    random = np.random.default_rng(seed)
    who = random.normal(size=(people, dim))
    tracks, moments = np.tile(np.arange(people), frames), np.repeat(np.arange(frames), people)
    return tracks, moments, who[tracks] + noise * random.normal(size=(people * frames, dim))


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_calibrate__keeps_the_stated_rate_of_false_merges_on_people_it_has_not_seen():
    known, frames, kept, rate = 50, 5, 8, 0.05
    calibration = calibrate(*crowd(40), false_merge_rate=rate, gallery_size=known, samples_per_identity=kept)
    random = np.random.default_rng(1)
    merged, found, trials = 0, 0, 2000
    people = random.normal(size=(known + trials, 64))
    looks = unit(people[:known, None] + 0.8 / frames**0.5 * random.normal(size=(known, kept, 64))).reshape(-1, 64)
    for number in range(trials):
        new = unit(people[known + number] + 0.8 / frames**0.5 * random.normal(size=64))
        again = unit(people[number % known] + 0.8 / frames**0.5 * random.normal(size=64))
        merged += (looks @ new).max() >= calibration.threshold
        found += (looks.reshape(known, kept, 64)[number % known] @ again).max() >= calibration.threshold
    # The quantile is for the rate, and it is raised from there.
    assert merged / trials <= rate
    assert found / trials > 0.99


def test_calibrate__threshold_grows_with_the_gallery():
    calibration = calibrate(*crowd(20), gallery_size=10)
    levels = [calibration.at(size) for size in (1, 10, 100, 10_000)]
    assert levels == sorted(levels)
    assert calibration.at(10) == pytest.approx(calibration.threshold)
    assert -1 < levels[0] < levels[-1] < 1


@pytest.mark.parametrize("kind", ["random", "constant"])
def test_calibrate__no_match_is_better_than_any_where_embeddings_tell_nothing(kind):
    tracks, frames, embeddings = crowd(12)
    random = np.random.default_rng(2)
    embeddings = random.normal(size=embeddings.shape) if kind == "random" else np.ones_like(embeddings)
    calibration = calibrate(tracks, frames, embeddings)
    assert calibration.threshold == np.inf
    assert calibration.at(3) == np.inf


def test_calibrate__takes_a_missing_row_for_no_evidence():
    tracks, frames, embeddings = crowd(8)
    holes = embeddings.copy()
    holes[::3] = np.nan
    kept = np.isfinite(holes).all(axis=1)
    ours, theirs = calibrate(tracks, frames, holes), calibrate(tracks[kept], frames[kept], embeddings[kept])
    assert ours.threshold == theirs.threshold


def test_calibration__survives_a_file():
    calibration = calibrate(*crowd(8))
    again = Calibration.from_tensors(calibration.tensors())
    for name in ("threshold", "margin", "false_merge_rate", "gallery_size", "track_pairs", "recall", "usual"):
        assert getattr(again, name) == getattr(calibration, name)
    np.testing.assert_array_equal(again.impostor, calibration.impostor)
    assert again.at(77) == calibration.at(77)


def test_adapt_and_calibrate__is_not_flattered_by_the_tracks_it_learned_from():
    # More axes than a few tracks can tell of.
    tracks, frames, embeddings = crowd(16, frames=60, dim=256, noise=3.0)
    whitening, honest = adapt_and_calibrate(tracks, frames, embeddings)
    flattered = calibrate(tracks, frames, embeddings, adapt=whitening)
    assert honest.threshold > flattered.threshold + 0.05
    assert honest.recall < flattered.recall


def test_whitening__makes_the_scatter_within_tracks_the_same_in_every_direction():
    random = np.random.default_rng(0)
    tracks = np.repeat(np.arange(30), 40)
    rows = random.normal(size=(30, 6))[tracks] + random.normal(size=(1200, 6)) * [5, 3, 1, 1, 0.5, 0.1]
    rows = unit(rows)
    whitening = Whitening.fit(tracks, rows, shrinkage=0.0)
    moved = (rows - whitening.mean) @ whitening.matrix
    means = np.stack([moved[tracks == track].mean(axis=0) for track in range(30)])
    within = moved - means[tracks]
    np.testing.assert_allclose(within.T @ within / (1200 - 30), np.eye(6), atol=2e-3)
    few = Whitening.fit(tracks, rows, out=2)
    assert few(rows[:5]).shape == (5, 2)
    np.testing.assert_allclose(np.linalg.norm(few(rows[:5]), axis=1), 1, atol=1e-5)
    assert np.isnan(whitening(np.full((1, 6), np.nan))).all()
    assert Whitening.from_tensors(whitening.tensors()) == whitening


@pytest.mark.plain
def test_calibrate__refuses_too_little_and_what_does_not_fit():
    tracks, frames, embeddings = crowd(4)
    with pytest.raises(BankStateError, match="6 pairs of tracks were in view at once"):
        calibrate(tracks, frames, embeddings)
    with pytest.raises(BankStateError, match="1 tracks have two or more embeddings"):
        Whitening.fit(tracks[tracks == 0], embeddings[tracks == 0])
    for wrong in ({"false_merge_rate": 0.0}, {"gallery_size": 0}, {"evidence_frames": 0}):
        with pytest.raises(BankError):
            calibrate(*crowd(6, frames=20), **wrong)
    with pytest.raises(BankError, match="in frame 0 twice"):
        calibrate(np.zeros_like(tracks), frames, embeddings)
    for options in ({"shrinkage": 2.0}, {"out": 99}):
        with pytest.raises(BankError):
            Whitening.fit(tracks, embeddings, **options)
