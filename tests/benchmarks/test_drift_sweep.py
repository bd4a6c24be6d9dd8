"""The sweep of capacity, start and cure: every setting trains, and what was run is told and drawn."""

import argparse
import json

import pytest
from benchmarks.documents import filled

from benchmarks import drift_sweep

CHOSEN = argparse.Namespace(seeds=[0, 1], capacities=list(drift_sweep.CAPACITIES), steps=2, batch=16, tiny=True)


def made_up(seeds=(0, 1), capacities=drift_sweep.CAPACITIES):
    """Records as `work` gives them: plain memory hurts at step 0."""
    jobs = drift_sweep.jobs(argparse.Namespace(**{**vars(CHOSEN), "seeds": seeds, "capacities": capacities}))
    scores = {"plain": 0.08, "auto": 0.14, drift_sweep.NONE: 0.12}
    return [
        {**job.settings, "map_at_r": scores.get(job.settings["cure"], 0.1) + job.settings["seed"] / 100} for job in jobs
    ]


def test_jobs__every_setting_once_a_seed():
    jobs = drift_sweep.jobs(CHOSEN)
    assert len({job.name for job in jobs}) == len(jobs) == 2 * (1 + 3 * (2 * 6 + 1))
    assert {job.settings["seed"] for job in jobs[: len(jobs) // 2]} == {0}


@pytest.mark.parametrize("cure", ["no memory", "auto"])
def test_work__a_run_has_its_scores(cure):
    job = next(job for job in reversed(drift_sweep.jobs(CHOSEN)) if job.settings["cure"] == cure)
    result = drift_sweep.work(job.settings)
    json.dumps(result, allow_nan=False)
    assert 0 <= result["map_at_r"] <= result["recall_at_1"] <= 1
    assert result["started"] == (-1 if cure == "auto" else 200)


def test_table__means_and_what_is_missing():
    table = drift_sweep.markdown(made_up())
    assert "Without memory: **12.5 ± 0.7**" in table
    assert "| 10% of the images | 0 | 8.50 ± 0.71 | 10.5 ± 0.7 |" in table
    assert "| 100% of the images | automatic | - | - | - | - | - | 14.5 ± 0.7 |" in table
    one = drift_sweep.markdown(made_up(seeds=(0,), capacities=(1.0,)))
    assert "one seed. Without memory: **12.0**" in one
    assert "| 10% of" not in one


@pytest.mark.parametrize("capacities", [(1.0,), drift_sweep.CAPACITIES])
def test_picture__is_drawn_of_what_was_run(tmp_path, capacities):
    runs = made_up(capacities=capacities)
    drift_sweep.draw(runs, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 10_000
    assert drift_sweep.headline(runs) == (
        "Worst plain memory: MAP@R 8.5 against 12.5 without; with the automatic gate 14.5"
    )


def test_page__has_the_markers_of_the_table():
    page = drift_sweep.PAGE.read_text()
    assert filled(page, drift_sweep.NAME, source="x.json", content="a table") != page
