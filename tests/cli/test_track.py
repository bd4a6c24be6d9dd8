"""`torchbank track` on a small real video, on files alone, and what a user does wrong."""

import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from small_video import FRAMES, RED_IS_GONE, colors_of_lines, mot_lines, write_everything
from torchbank.tracking import IdentityGallery, read_mot, read_video

FEW = ("--threshold", "0.8", "--buffer", "10")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return write_everything(tmp_path_factory.mktemp("track"))


@pytest.fixture(scope="module")
def tracked(torchbank, place):
    done = torchbank(
        *("track", "--video", f"hall={place / 'small.mp4'}", "--detections", place / "boxes.txt"),
        *("--embedder", f"torchscript:{place / 'color.pt'}", "--run", place / "run", *FEW),
    )
    assert done.code == 0, done.err
    return place / "run", done.out


def test_track__gives_the_old_identity_back_and_writes_everything(tracked):
    run, out = tracked
    assert {path.name for path in run.iterdir() if path.suffix != ".lock"} == {
        *("config.json", "hall.txt", "hall-at-the-time.txt", "identities.json", "gallery.safetensors"),
        *("timeline.png", "hall.mp4", "contact-sheets"),
    }
    rows = read_mot(run / "hall.txt")
    assert len(rows.frames) == len(mot_lines())
    red = rows.boxes[:, 1] < 50
    assert len(set(rows.track_ids[red].tolist())) == len(set(rows.track_ids[~red].tolist())) == 1
    at_the_time = read_mot(run / "hall-at-the-time.txt")
    assert len(set(at_the_time.track_ids.tolist())) == 3
    content = json.loads((run / "identities.json").read_text())
    of_red = next(row for row in content["identities"] if row["identity"] == rows.track_ids[red][0])
    assert [(visit["first_frame"], visit["last_frame"]) for visit in of_red["visits"]] == [
        (1, RED_IS_GONE.start - 1),
        (RED_IS_GONE.stop, FRAMES),
    ]
    assert [decision["outcome"] for decision in content["decisions"]].count("returned") == 1
    assert "hall" in out
    assert str(run / "timeline.png") in out
    assert len(list((run / "contact-sheets").glob("*.png"))) == 2


def test_track__the_annotated_video_shows_the_boxes(tracked, place):
    run, _ = tracked
    before, after = (list(read_video(path)) for path in (place / "small.mp4", run / "hall.mp4"))
    assert len(after) == len(before) == FRAMES
    changed = np.abs(after[0].astype(int) - before[0]).mean(axis=2) > 60
    # Two frames and two numbers on an image of 19,200 pixels.
    assert 300 < changed.sum() < 4_000


def test_track__a_second_video_goes_on_with_the_gallery_of_the_first(torchbank, place, tmp_path):
    words = ("track", "--detections", place / "boxes.txt", "--embeddings", place / "colors.npy", *FEW)
    gallery = tmp_path / "people.safetensors"
    first = torchbank(*words, "--gallery", gallery, "--run", tmp_path / "first")
    assert first.code == 0, first.err
    # Without a video there is nothing to cut out or to draw on.
    assert {path.name for path in (tmp_path / "first").iterdir()} == {
        *("config.json", "boxes.txt", "boxes-at-the-time.txt", "identities.json", "timeline.png"),
    }
    second = torchbank(*words, "--gallery", gallery, "--run", tmp_path / "second")
    assert second.code == 0, second.err
    ids = [set(read_mot(tmp_path / name / "boxes.txt").track_ids.tolist()) for name in ("first", "second")]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 2
    with IdentityGallery.load(gallery, lock=False) as people:
        assert set(people.identities.tolist()) == ids[0]


def test_track__two_sources_share_identities(torchbank, place, tmp_path):
    done = torchbank(
        *("track", "--detections", f"a={place / 'boxes.txt'}", f"b={place / 'boxes.txt'}"),
        *("--embeddings", f"a={place / 'colors.npy'}", f"b={place / 'colors.npy'}"),
        *("--run", tmp_path / "run", *FEW, "--start", "a=0", "b=100", "--travel-time", "a,b=3"),
    )
    assert done.code == 0, done.err
    ids = [set(read_mot(tmp_path / "run" / f"{name}.txt").track_ids.tolist()) for name in "ab"]
    assert ids[0] == ids[1]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_track__ctrl_c_keeps_what_was_done(place, tmp_path):
    import os
    import subprocess

    code = (
        "import sys, os, signal, torchbank.cli._track_run as run, torchbank.cli._track as track\n"
        "look = run.tracking.observe\n"
        "def observe(*, on_frame, **given):\n"
        "    def told(done, total):\n"
        "        on_frame(done, total)\n"
        "        done == 50 and os.kill(os.getpid(), signal.SIGINT)\n"
        "    return look(on_frame=told, **given)\n"
        "run.tracking.observe = observe\n"
        "from torchbank.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ("track", "--detections", place / "boxes.txt", "--embeddings", place / "colors.npy", *FEW)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words), "--run", str(tmp_path / "run")],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "stopped early" in done.stdout
    assert read_mot(tmp_path / "run" / "boxes.txt").frames.max() == 50
    assert (tmp_path / "run" / "gallery.safetensors").is_file()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


_FILES = "--detections {place}/boxes.txt --embeddings {place}/colors.npy"
_MISTAKES = {
    "nothing": ("", "there is nothing to look at; give --video, or --detections with --embeddings"),
    "no boxes": ("--video {place}/small.mp4 --embedder ultralytics", "give either --detections or --detector"),
    "no embeddings": ("--detections {place}/boxes.txt", "give either --embeddings or --embedder"),
    "no picture": ("--detections {place}/boxes.txt --embedder torchscript:{place}/color.pt", "give --video"),
    "missing video": ("--video {place}/none.mp4 " + _FILES, "there is no video"),
    "no video": ("--video {place}/boxes.txt " + _FILES, "boxes.txt has no picture in it; expected a video"),
    "missing boxes": ("--detections {place}/none.txt --embeddings {place}/colors.npy", "there is no file"),
    "no text of boxes": ("--detections {place}/colors.npy --embeddings {place}/colors.npy", "colors.npy"),
    "rows": ("--detections {place}/boxes.txt --embeddings {place}/few.npy", "few.npy has 3 rows and"),
    "integers": ("--detections {place}/boxes.txt --embeddings {place}/whole.npy", "expected floating numbers"),
    "track twice": ("--detections {place}/twice.txt --embeddings {place}/two.npy", "track 7 is twice in frame 1"),
    "outside": (
        "--video {place}/small.mp4 --detections {place}/outside.txt --embeddings {place}/one.npy",
        "of frame 1 lies outside the picture of 160 x 120 pixels",
    ),
    "names": (
        "--detections a={place}/boxes.txt b={place}/boxes.txt --embeddings a={place}/colors.npy",
        "--embeddings names a; expected one for each of a, b",
    ),
    "one name twice": ("--detections {place}/boxes.txt {place}/boxes.txt", "expected NAME=FILE with a name of its own"),
    "detector": ("--video {place}/small.mp4 --detector yolo --embedder ultralytics", "unknown detector 'yolo'"),
    "no detector": (
        "--video {place}/small.mp4 --detector ultralytics:yolo26n --embedder ultralytics",
        "needs the package ultralytics; pip install ultralytics",
    ),
    "embedder": ("--video {place}/small.mp4 --detections {place}/boxes.txt --embedder osnet", "unknown embedder"),
    "onnx": ("--video {place}/small.mp4 --detections {place}/boxes.txt --embedder onnx:a.onnx", "onnxruntime"),
    "start": (_FILES + " --start boxes=soon", "expected a name, = and a number of seconds"),
    "overlapping": (_FILES + " --overlapping a,b", "expected two of boxes"),
    "corrupt gallery": (_FILES + " --gallery {place}/corrupt.safetensors", "corrupt.safetensors is truncated or not"),
    "other length": (_FILES + " --gallery {place}/five.safetensors", "Did another embedder make them"),
    "other embedder": (
        "--video {place}/small.mp4 --detections {place}/boxes.txt --embedder torchscript:{place}/color.pt "
        "--gallery {place}/osnet.safetensors",
        "osnet",
    ),
    "no folder": (_FILES + " --gallery {place}/nowhere/a.safetensors", "nowhere"),
    "run exists": (_FILES + " --run {place}/full", "full exists already; give another run folder"),
}


@pytest.fixture(scope="module")
def mistakes(place) -> Path:
    np.save(place / "few.npy", colors_of_lines()[:3])
    np.save(place / "one.npy", np.ones((1, 3)))
    np.save(place / "two.npy", np.ones((2, 3)))
    np.save(place / "whole.npy", np.ones((len(mot_lines()), 3), dtype=int))
    (place / "twice.txt").write_text("1,7,5,5,9,9,1\n1,7,50,5,9,9,1\n")
    (place / "outside.txt").write_text("1,1,200,5,9,9,1\n")
    (place / "corrupt.safetensors").write_bytes(b"not a gallery")
    (place / "full").mkdir()
    (place / "full" / "note.txt").write_text("mine")
    IdentityGallery(5).save(place / "five.safetensors")
    IdentityGallery(3, fingerprint="osnet@1").save(place / "osnet.safetensors")
    return place


@pytest.mark.parametrize("mistake", _MISTAKES)
def test_track__a_mistake_is_told_in_one_line(torchbank, mistakes, tmp_path, mistake):
    words, message = _MISTAKES[mistake]
    run = () if "--run" in words else ("--run", tmp_path / "run")
    done = torchbank("track", *words.format(place=mistakes).split(), *run, "--threshold", "0.8")
    assert done.code == 2, done.err
    assert done.out == ""
    told = [line for line in done.err.splitlines() if line.startswith("torchbank: error: ")]
    assert len(told) == 1
    assert message in told[0]
    assert not (tmp_path / "run").exists()
