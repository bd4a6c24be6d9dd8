"""The pictures of identities, rendered and looked at."""

import numpy as np
import pytest
from test_pictures import BLUE, VERMILION, at_slide_size, pixels, read

from torchbank import report
from torchbank.errors import BankValueError
from torchbank.tracking import Appearances, calibrate


def appearances(identities, *, names=("hall",)):
    """Visits of two frames each, one after the other, every one another track."""
    count = len(identities)
    return Appearances(
        names=names, sources=np.arange(count).repeat(2) % len(names), frames=np.arange(2 * count),
        times=np.arange(2 * count) / 2, track_ids=np.arange(count).repeat(2), identities=np.repeat(identities, 2),
        boxes=np.zeros((2 * count, 4)), scores=np.ones(2 * count), classes=np.zeros(2 * count, dtype=np.int64),
    )  # fmt: skip


def test_identity_timeline__draws_a_bar_for_each_visit(tmp_path):
    report.plot_identity_timeline(appearances([1, 2, 1, 1]), tmp_path / "a.png")
    one = pixels(tmp_path / "a.png", BLUE)
    assert at_slide_size(tmp_path / "a.png") or read(tmp_path / "a.png").shape[1] > 1_200
    # Identities of one track each have one colour; a mended one has several.
    assert one > 0
    assert pixels(tmp_path / "a.png", (230, 159, 0)) > 0
    report.plot_identity_timeline(appearances([1, 2, 3, 4]), tmp_path / "b.png")
    assert pixels(tmp_path / "b.png", (230, 159, 0)) == 0
    report.plot_identity_timeline(appearances([1, 2, 1, 1], names=("a", "b")), tmp_path / "c.png", most=1)
    assert pixels(tmp_path / "c.png", BLUE) > 0
    with pytest.raises(BankValueError, match="nothing to draw"):
        report.plot_identity_timeline(appearances([0, -1]), tmp_path / "d.png")


def crop(time, color, *, track_id=1, source="hall"):
    return report.Crop(np.full((40, 20, 3), color, dtype=np.uint8), track_id, source, time)


def test_contact_sheet__shows_every_crop_in_order_of_time(tmp_path):
    crops = [crop(2.0, (0, 0, 200), track_id=2), crop(1.0, (200, 0, 0)), crop(3.0, (0, 200, 0), source="yard")]
    report.plot_contact_sheet(crops, tmp_path / "a.png", identity=7)
    image = read(tmp_path / "a.png")
    left = [np.argwhere((image == color).all(axis=2))[:, 1].min() for color in ((200, 0, 0), (0, 0, 200), (0, 200, 0))]
    assert left == sorted(left)
    assert len(set(left)) == 3
    with pytest.raises(BankValueError, match="no crop of identity 7"):
        report.plot_contact_sheet([], tmp_path / "b.png", identity=7)


def test_calibration__draws_both_histograms_and_the_threshold(tmp_path):
    random = np.random.default_rng(0)
    tracks, frames = np.tile(np.arange(8), 60), np.repeat(np.arange(60), 8)
    rows = random.normal(size=(8, 16))[tracks] + 0.4 * random.normal(size=(480, 16))
    for name, embeddings in (("told", rows), ("alike", np.ones_like(rows))):
        report.plot_calibration(calibrate(tracks, frames, embeddings), tmp_path / f"{name}.png")
        assert pixels(tmp_path / f"{name}.png", BLUE) > 100
        assert pixels(tmp_path / f"{name}.png", VERMILION) > 100


def test_virtual_pillar__draws_a_curve_for_each_kind_of_embeddings(tmp_path):
    report.plot_virtual_pillar(
        {"as they are": ([1, 2], [0.5, 0.2]), "whitened": ([1, 2], [1, 0.9])}, tmp_path / "a.png"
    )
    assert pixels(tmp_path / "a.png", BLUE) > 100
