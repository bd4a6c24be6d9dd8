"""`torchbank video` on small real films whose last event only the past can tell apart, and what a user does wrong."""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from small_video import MeanColor
from torchbank.cli._video_labels import read_labels
from torchbank.data import VideoWriter
from torchbank.errors import BankError

FPS, SECONDS, WIDTH, HEIGHT = 5, 14, 32, 24
COLORS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
GREEN, GREY = (30, 200, 30), (120, 120, 120)
FILMS = [("train", color) for color in COLORS for _ in range(3)] + [
    ("test", color) for color in COLORS for _ in range(2)
]


def film(path, color, first):
    """Grey, but for a second of a colour and, ten seconds later, one of green."""
    with VideoWriter(path, fps=FPS, width=WIDTH, height=HEIGHT) as writer:
        for frame in range(FPS * SECONDS):
            second = frame / FPS
            shown = COLORS[color] if first <= second < first + 1 else GREEN if 12 <= second < 13 else GREY
            writer.write(np.full((HEIGHT, WIDTH, 3), shown, dtype=np.uint8))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("video")
    (folder / "films").mkdir()
    clips, frames = ["video,begin,end,label,split"], ["video,time,label,split"]
    for number, (part, color) in enumerate(FILMS):
        name = f"{number:02}.mp4"
        film(folder / "films" / name, color, 1 + number % 2)
        clips.append(f"{name},12,13,after {color},{part}")
        frames += [f"{name},12.4,after {color},{part}", f"{name},12.4,green,{part}", f"{name},5.0,,{part}"]
    (folder / "clips.csv").write_text("\n".join(clips) + "\n")
    (folder / "frames.csv").write_text("\n".join(frames) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(MeanColor()).save(str(folder / "color.pt"))
    return folder


@pytest.fixture
def words(place, tmp_path):
    return (
        *("video", "--videos", place / "films", "--encoder", f"torchscript:{place / 'color.pt'}", "--dim", "3"),
        *("--image-size", "8", "--features", place / "features.safetensors", "--novelty", "0.05", "--capacity", "8"),
        *("--run", tmp_path / "run"),
    )


def test_video__a_memory_tells_clips_apart_that_look_alike(torchbank, place, words, tmp_path):
    done = torchbank(*words, "--labels", place / "clips.csv", "--plots", "2")
    assert done.code == 0, done.err
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} == {
        *("config.json", "scores.json", "attention-06.png", "attention-07.png"),
    }
    content = json.loads((run / "scores.json").read_text())
    assert (content["kind"], content["train"], content["test"]) == ("clip", 6, 4)
    assert content["scores"]["without memory"]["score"] < 0.8
    assert content["scores"]["with memory"]["score"] == 1.0
    assert "with memory" in done.out
    assert "100.0%" in done.out
    assert str(run / "attention-06.png") in done.out


def test_video__frames_are_scored_by_mean_average_precision(torchbank, place, words, tmp_path):
    done = torchbank(*words, "--labels", place / "frames.csv", "--plots", "0")
    assert done.code == 0, done.err
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())["scores"]
    without, with_memory = (scores[who]["average_precision"] for who in ("without memory", "with memory"))
    assert without["green"] == with_memory["green"] == 1.0
    assert without["after red"] + without["after blue"] < 1.8
    assert with_memory["after red"] == with_memory["after blue"] == 1.0
    assert "mAP" in done.out


@pytest.mark.parametrize("compress", ["merge", "prototypes"])
def test_video__every_rule_can_be_asked_for(torchbank, place, words, compress):
    rules = ("--evict", "least-used", "--read", "average", "--stride", "2", "--compress", compress, "--plots", "0")
    done = torchbank(*words, "--labels", place / "clips.csv", *rules)
    assert done.code == 0, done.err


_CLIPS = "video,begin,end,label\n"
_MISTAKES = {
    "headings": ("film,label\na,b\n", "has the headings film, label; expected video,begin,end,label"),
    "no line": (_CLIPS, "has no line under its headings"),
    "no video": (_CLIPS + "99.mp4,0,1,a\n", "line 2: there is no video '99.mp4'"),
    "no time": (_CLIPS + "00.mp4,soon,1,a\n", "line 2: 'soon' is no time; expected seconds from 0 on"),
    "backwards": (_CLIPS + "00.mp4,2,1,a\n", "the clip ends at 1 s and begins at 2 s"),
    "no label": (_CLIPS + "00.mp4,1,2,\n", "the clip of 00.mp4 at 1 s has no label"),
    "two labels": (_CLIPS + "00.mp4,1,2,a\n00.mp4,1,2,b\n", "line 3: the clip of 00.mp4 at 1 s has a second label"),
    "one video": (_CLIPS + "00.mp4,1,2,a\n", "expected some of both"),
    "split": ("video,time,label,split\n00.mp4,1,a,dev\n", "line 2: the split is 'dev'; expected train or test"),
    "both": ("video,time,label,split\n00.mp4,1,a,train\n00.mp4,2,a,test\n", "00.mp4 is in train and in test"),
    "no text": ("video,time,label\n\udcff", "is not a CSV file"),
}


@pytest.mark.parametrize("mistake", _MISTAKES)
def test_labels__a_mistake_is_told_with_its_line(place, tmp_path, mistake):
    text, message = _MISTAKES[mistake]
    (tmp_path / "labels.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(BankError, match=re.escape(message)):
        read_labels(tmp_path / "labels.csv", place / "films", test_fraction=0.5, seed=0)


def test_labels__of_whole_videos_are_drawn_by_the_seed(place, tmp_path):
    (tmp_path / "labels.csv").write_text(
        _CLIPS + "".join(f"0{n}.mp4,{second},9,a\n" for n in range(8) for second in "12")
    )
    drawn = [read_labels(tmp_path / "labels.csv", place / "films", test_fraction=0.25, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    for labels in drawn:
        assert (len(labels.train), len(labels.test)) == (12, 4)
        assert not {part.video for part in labels.train} & {part.video for part in labels.test}
    with pytest.raises(BankError, match="test_fraction is 2"):
        read_labels(tmp_path / "labels.csv", place / "films", test_fraction=2, seed=0)


_LEARNED = "video,begin,end,label,split\n00.mp4,1,2,a,train\n01.mp4,1,2,b,train\n"
_CANNOT = {
    "late": (_LEARNED + "06.mp4,90,91,a,test\n", "", "06.mp4 has no feature at 90 s"),
    "unknown label": (_LEARNED + "06.mp4,1,2,c,test\n", "", "no clip to learn from has the label 'c'"),
    "no file": (None, "", "there is no file of labels"),
    "capacity": (_LEARNED + "06.mp4,1,2,a,test\n", "--capacity 0", "capacity is 0"),
    "dim": (_LEARNED + "06.mp4,1,2,a,test\n", "--dim 4", "gives (1, 3) for one image; expected (1, 4)"),
}


@pytest.mark.parametrize("mistake", _CANNOT)
def test_video__what_cannot_be_is_told_in_one_line(torchbank, words, tmp_path, mistake):
    text, options, message = _CANNOT[mistake]
    if text is not None:
        (tmp_path / "labels.csv").write_text(text)
    _assert_told(torchbank(*words, "--labels", tmp_path / "labels.csv", *options.split()), message, tmp_path)


def test_video__names_the_video_that_cannot_be_read(torchbank, place, words, tmp_path):
    broken = tmp_path / "films"
    broken.mkdir()
    for number in range(3):
        film(broken / f"{number}.mp4", "red", 1)
    (broken / "1.mp4").write_bytes((broken / "1.mp4").read_bytes()[:300])
    labels = tmp_path / "labels.csv"
    labels.write_text(_CLIPS + "".join(f"{number}.mp4,1,2,a\n" for number in range(3)))
    given = ("--labels", labels, "--videos", broken, "--features", tmp_path / "features.safetensors")
    _assert_told(torchbank(*words, *given), "1.mp4 is damaged or not a video", tmp_path)


def _assert_told(done, message, tmp_path):
    assert done.code == 2, done.err
    assert done.out == ""
    told = [line for line in done.err.splitlines() if line.startswith("torchbank: error: ")]
    assert len(told) == 1
    assert message in told[0]
    assert not (tmp_path / "run").exists()
