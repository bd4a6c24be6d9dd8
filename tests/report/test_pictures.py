"""Every picture is rendered for real and looked at: size, colours, and that nothing was left blank."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_comparison import RUNS

from torchbank import data, report
from torchbank.errors import BankValueError
from torchbank.report._style import drawable

BLUE, VERMILION, GREEN = (0, 114, 178), (213, 94, 0), (0, 158, 115)
METRICS = [{"step": step, "train/loss": 2.0 / step + (0.5 if step > 40 else 0.0)} for step in range(2, 101, 2)] + [
    {"step": step, "test/recall_at_1": 0.006 * step, "test/map_at_r": 0.003 * step} for step in (50, 100)
]
DRIFT = {"age": [1.0, 20.0, 40.0], "mean": [0.1, 0.2, 0.3], "p90": [0.2, 0.4, 0.5], "count": [2, 100, 50]}


def pixels(path: Path, color: tuple[int, int, int]) -> int:
    """How many pixels of a picture have a colour."""
    return int((read(path) == np.array(color)).all(axis=2).sum())


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def at_slide_size(path: Path) -> bool:
    height, width, _ = read(path).shape
    return width > 1_200 and height > 700


@pytest.mark.parametrize("memory_start", [None, 40, 4_000])
def test_loss__is_drawn_with_and_without_a_memory(tmp_path, memory_start):
    report.plot_loss(METRICS, tmp_path / "plots" / "loss.png", memory_start=memory_start)
    assert at_slide_size(tmp_path / "plots" / "loss.png")
    assert pixels(tmp_path / "plots" / "loss.png", BLUE) > 1_000


def test_scores__both_are_drawn(tmp_path):
    report.plot_scores(METRICS, tmp_path / "scores.png", memory_start=40)
    assert at_slide_size(tmp_path / "scores.png")
    assert pixels(tmp_path / "scores.png", BLUE) > 1_000
    assert pixels(tmp_path / "scores.png", VERMILION) > 1_000


def test_scores__of_shared_classes_and_of_pairs(tmp_path):
    knn = [{"step": 50, "test/knn_accuracy": 0.5, "test/knn_k": 200, "test/knn_temperature": 0.1}]
    report.plot_scores(knn, tmp_path / "knn.png")
    assert pixels(tmp_path / "knn.png", BLUE) > 300
    pairs = [{"step": step, "test/forward_recall_at_1": 0.3, "test/backward_recall_at_1": 0.2} for step in (50, 100)]
    report.plot_scores(pairs, tmp_path / "pairs.png")
    assert pixels(tmp_path / "pairs.png", BLUE) > 1_000
    assert pixels(tmp_path / "pairs.png", VERMILION) > 1_000


def test_curves__nothing_to_draw(tmp_path):
    with pytest.raises(BankValueError, match="hold no score of the test part"):
        report.plot_scores([{"step": 1, "train/loss": 1.0}], tmp_path / "scores.png")
    assert not list(tmp_path.iterdir())


def test_drift__ages_of_few_images_are_left_out(tmp_path):
    report.plot_drift(DRIFT, tmp_path / "all.png", oldest=30)
    without_first = {name: values[1:] for name, values in DRIFT.items()}
    report.plot_drift(without_first, tmp_path / "often.png", oldest=30)
    np.testing.assert_array_equal(read(tmp_path / "all.png"), read(tmp_path / "often.png"))
    assert pixels(tmp_path / "all.png", BLUE) > 1_000


def test_drift__too_little_measured(tmp_path):
    with pytest.raises(BankValueError, match="no age has 30 images"):
        report.plot_drift({**DRIFT, "count": [2, 3, 4]}, tmp_path / "drift.png")


FIDELITY = {"age": [2.0, 20.0, 40.0], "mean": [0.9, 0.6, 0.3], "p10": [0.8, 0.4, -0.1], "count": [2, 9, 5]}


def test_fidelity__ages_measured_once_or_twice_are_left_out(tmp_path):
    report.plot_fidelity(FIDELITY, tmp_path / "all.png", oldest=30)
    often = {name: values[1:] for name, values in FIDELITY.items()}
    report.plot_fidelity(often, tmp_path / "often.png", oldest=30)
    np.testing.assert_array_equal(read(tmp_path / "all.png"), read(tmp_path / "often.png"))
    assert at_slide_size(tmp_path / "all.png")
    assert pixels(tmp_path / "all.png", BLUE) > 1_000


def test_fidelity__too_little_measured(tmp_path):
    with pytest.raises(BankValueError, match="no age has 3 measurements"):
        report.plot_fidelity({**FIDELITY, "count": [1, 2, 0]}, tmp_path / "fidelity.png")
    assert not list(tmp_path.iterdir())


def test_slow_drift__a_line_for_each_lag(tmp_path):
    metrics = [{"step": step, "train/drift_10": 0.1, "train/drift_100": 0.4} for step in (110, 210, 310)]
    assert report.has_slow_drift(metrics)
    report.plot_slow_drift(metrics, tmp_path / "two.png", memory_start=200)
    assert at_slide_size(tmp_path / "two.png")
    assert pixels(tmp_path / "two.png", BLUE) > 1_000
    assert pixels(tmp_path / "two.png", GREEN) > 1_000
    assert not pixels(tmp_path / "two.png", VERMILION)


def test_slow_drift__nothing_to_draw(tmp_path):
    assert not report.has_slow_drift(METRICS)
    with pytest.raises(BankValueError, match="the metrics hold no train/drift_10"):
        report.plot_slow_drift(METRICS, tmp_path / "slow.png")
    assert not list(tmp_path.iterdir())


def health(**logs):
    return [{"step": step, **{f"train/{name}": value for name, value in logs.items()}} for step in range(2, 101, 2)]


def test_health__draws_what_was_logged(tmp_path):
    report.plot_health(health(loss=2.0, embedding_std=0.8), tmp_path / "two.png")
    logs = {"collapsed_loss": 9.7, "winner_entropy": 0.7, "positive_similarity": 0.8, "negative_similarity": 0.1}
    report.plot_health(health(loss=2.0, embedding_std=0.8, memory_age=50.0, **logs), tmp_path / "six.png", drift=DRIFT)
    five = health(loss=2.0, embedding_std=0.8, memory_age=50.0, **logs)
    report.plot_health(five, tmp_path / "five.png")
    height, width, _ = read(tmp_path / "five.png").shape
    assert (read(tmp_path / "five.png")[6 * height // 10 :, 7 * width // 10 :] == 255).all()
    # A row of panels more, and curves in the second and third colour.
    assert read(tmp_path / "six.png").shape[0] > 1.5 * read(tmp_path / "two.png").shape[0]
    for color in (VERMILION, GREEN):
        assert pixels(tmp_path / "six.png", color) > 500
        assert not pixels(tmp_path / "two.png", color)


def test_health__too_little_drift_has_no_panel(tmp_path):
    metrics = health(loss=2.0, embedding_std=0.8)
    report.plot_health(metrics, tmp_path / "none.png")
    report.plot_health(metrics, tmp_path / "few.png", drift={**DRIFT, "count": [2, 3, 4]})
    np.testing.assert_array_equal(read(tmp_path / "none.png"), read(tmp_path / "few.png"))


def test_health__nothing_to_draw(tmp_path):
    assert not report.has_health(METRICS)
    with pytest.raises(BankValueError, match="hold none of train/collapsed_loss, train/embedding_std"):
        report.plot_health(METRICS, tmp_path / "health.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("channels", [1, 3])
def test_retrieval_sheet__frames_tell_right_from_wrong(tmp_path, channels):
    labels = torch.arange(6).repeat_interleave(4)
    shades = torch.randint(0, 256, (24, channels, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = data.ArrayImages(shades, labels, class_names=list("abcdef"), name="tiny")
    right = torch.nn.functional.one_hot(labels, 6).float()
    # Neighbours of an image are those of its own place in every other class.
    wrong = torch.nn.functional.one_hot(torch.arange(24) % 4, 4).float()
    for name, embeddings in (("right", right), ("wrong", wrong)):
        path = tmp_path / f"{name}.png"
        report.plot_retrieval_sheet(images, embeddings, path, queries=4, neighbors=3)
        assert pixels(path, GREEN) > 1_000 if name == "right" else not pixels(path, GREEN)
        assert pixels(path, VERMILION) > 1_000 if name == "wrong" else not pixels(path, VERMILION)
    # Without colour: dashed frames leave less ink than solid ones, and a cross sits in the corner.
    gray = [read(tmp_path / f"{name}.png").mean(axis=2) for name in ("right", "wrong")]
    assert not np.array_equal(gray[0] < 128, gray[1] < 128)


def test_comparison__one_seed_and_several(tmp_path):
    runs = [run for run in RUNS if run.batch_size == 16]
    report.plot_comparison(report.Comparison(runs), tmp_path / "three.png")
    report.plot_comparison(report.Comparison([run for run in runs if run.seed == 0]), tmp_path / "one.png")
    for name in ("three", "one"):
        assert at_slide_size(tmp_path / f"{name}.png")
    assert pixels(tmp_path / "three.png", (0, 0, 0)) > pixels(tmp_path / "one.png", (0, 0, 0))


def test_batch_sizes__four_panels(tmp_path):
    report.plot_batch_sizes(report.Comparison(RUNS), tmp_path / "sweep.png")
    picture = read(tmp_path / "sweep.png")
    blue = (picture == np.array(BLUE)).all(axis=2)
    panels = [panel for half in np.array_split(blue, 2) for panel in np.array_split(half, 2, axis=1)]
    assert all(panel.sum() > 300 for panel in panels)


def test_suspects__each_line_has_its_frame_and_names_where_the_font_has_them(tmp_path):
    images = data.load("kanji").train
    suspects = [report.Suspect(0, (1, 2), (10, 11, 12), "\u4e9c"), report.Suspect(20, (), (5,), "a name")]
    report.plot_suspect_sheet(images, suspects, tmp_path / "two.png")
    assert min(read(tmp_path / "two.png").shape[:2]) > 400
    assert pixels(tmp_path / "two.png", VERMILION) > 1_000
    report.plot_suspect_sheet(images, suspects[:1], tmp_path / "one.png")
    # A dashed frame a line, beside the word above them.
    assert 0.4 < pixels(tmp_path / "one.png", VERMILION) / pixels(tmp_path / "two.png", VERMILION) < 0.75
    with pytest.raises(BankValueError, match="there is no suspect to draw"):
        report.plot_suspect_sheet(images, [], tmp_path / "none.png")


def test_drawable__is_what_the_font_has():
    assert drawable("caf\u00e9 \u03bb") == "caf\u00e9 \u03bb"
    assert drawable("\u4e9c") == ""
