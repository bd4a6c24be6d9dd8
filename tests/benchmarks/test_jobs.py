"""Jobs in processes of their own: their results are kept, and a failure loses no other job."""

import json
from pathlib import Path

import pytest
from benchmarks.documents import filled
from benchmarks.jobs import FailedJobsError, Job, run_jobs

HERE = Path(__file__).parent


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))

    def jobs(**values):
        found = [
            Job(name, {"value": value, "calls": str(tmp_path / f"{name}.calls")}) for name, value in values.items()
        ]
        return run_jobs("counting_job", found, tmp_path / "runs", processes=2)

    jobs.calls = lambda name: len((tmp_path / f"{name}.calls").read_text())
    jobs.folder = tmp_path / "runs"
    return jobs


def test_jobs__run_once_and_again_with_other_settings(run):
    assert [record["square"] for record in run(a=3)] == [9]
    assert [record["square"] for record in run(a=3, b=4)] == [9, 16]
    assert run.calls("a") == 1
    assert [record["square"] for record in run(a=5, b=4)] == [25, 16]
    assert (run.calls("a"), run.calls("b")) == (2, 1)


def test_jobs__a_failure_is_told_and_the_others_are_kept(run):
    with pytest.raises(FailedJobsError, match=r"1 of 2 jobs failed.*\nbad: ValueError: a negative value"):
        run(bad=-1, good=2)
    assert json.loads((run.folder / "good.json").read_text())["result"] == {"square": 4}
    (run.folder / "good.json").write_text("{")
    assert [record["square"] for record in run(good=2)] == [4]
    assert run.calls("good") == 2


def test_filled__replaces_only_what_lies_between_its_markers():
    page = "a\n<!-- x: begin old.json -->\nold \\1\n<!-- x: end -->\nb\n<!-- y: begin -->\nkept\n<!-- y: end -->\n"
    once = filled(page, "x", source="new.json", content="new \\1")
    assert once == page.replace("old.json", "new.json").replace("\nold \\1\n", "\n\nnew \\1\n\n")
    assert filled(once, "x", source="new.json", content="new \\1") == once
    with pytest.raises(ValueError, match="no markers 'z: begin'"):
        filled(page, "z", source="", content="")
