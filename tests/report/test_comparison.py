"""Means, spreads and gains, against NumPy."""

import json

import numpy as np
import pytest

from torchbank.errors import BankValueError
from torchbank.report import MEASURES, Comparison, Run, Spread


def summary(map_at_r: float, *, bank_bytes: int = 0) -> dict:
    return {
        "scores": {"recall_at_1": 2 * map_at_r, "map_at_r": map_at_r},
        "bank": {"bytes": bank_bytes} if bank_bytes else None,
        "memory": {"activation_bytes": 1_000_000},
        "timing": {"milliseconds_per_step": 20.0, "steps_per_second": 45.0},
    }


WITHOUT, WITH = (0.27, 0.29, 0.25), (0.33, 0.36, 0.32)
RUNS = [
    Run(memory, size, seed, f"batch{size}-{memory}-seed{seed}", summary(score / (17 - 16 / size), bank_bytes=nbytes))
    for size in (64, 16)
    for memory, scores, nbytes in (("with", WITH, 8_000_000), ("without", WITHOUT, 0))
    for seed, score in enumerate(scores)
]


def _scores(memory: str, size: int) -> np.ndarray:
    return 100 * np.array(WITH if memory == "with" else WITHOUT) / (17 - 16 / size)


@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("memory", ["without", "with"])
def test_measure__mean_and_sample_deviation(size, memory):
    spread = Comparison(RUNS).measure(size, memory, "map_at_r")
    expected = _scores(memory, size)
    np.testing.assert_allclose(spread.values, expected)
    np.testing.assert_allclose(spread.mean, expected.mean())
    np.testing.assert_allclose(spread.deviation, expected.std(ddof=1))


def test_gain__is_taken_seed_by_seed():
    gain = Comparison(RUNS).gain(16, "map_at_r")
    differences = _scores("with", 16) - _scores("without", 16)
    np.testing.assert_allclose(gain.values, differences)
    np.testing.assert_allclose(gain.deviation, differences.std(ddof=1))


def test_gain__only_over_seeds_of_both_sides():
    runs = [run for run in RUNS if run.batch_size == 16 and (run.memory, run.seed) != ("with", 1)]
    assert len(Comparison(runs).gain(16, "map_at_r").values) == 2
    assert Comparison([run for run in runs if run.memory == "with"]).gain(16, "map_at_r") is None


def test_table__batch_sizes_and_sides_in_order():
    headings, rows = Comparison(RUNS).table(("map_at_r", "bank_megabytes"))
    assert headings == ["batch", "memory", "MAP@R (%)", "bank (MB)"]
    assert [row[:2] for row in rows] == [["16", "without"], ["16", "with"], ["64", "without"], ["64", "with"]]
    assert [row[3] for row in rows] == ["0.00", "8.00", "0.00", "8.00"]


def test_as_dict__is_json_and_holds_every_run():
    content = json.loads(json.dumps(Comparison(RUNS).as_dict()))
    assert len(content["runs"]) == 12
    assert content["seeds"] == [0, 1, 2]
    assert set(content["groups"][0]) == {"batch_size", "memory", *MEASURES}
    assert content["gain"][0]["batch_size"] == 16


@pytest.mark.parametrize(
    ("values", "text"),
    [((31.0, 33.0), "32.0 ± 1.4"), ((1.0, 1.5), "1.25 ± 0.35"), ((63.44,), "63.4"), ((8.0, 8.0), "8.00")],
)
def test_spread__as_text(values, text):
    assert str(Spread(values)) == text


def test_comparison__of_nothing():
    with pytest.raises(BankValueError, match="no runs to compare"):
        Comparison([])
