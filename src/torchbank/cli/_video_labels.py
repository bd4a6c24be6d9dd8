"""The labels of videos, of clips or of frames, from a CSV file, and which videos are learned from."""

import csv
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from torchbank.errors import BankFileNotFoundError, BankValueError, FileFormatError

CLIP, FRAME = {"video", "begin", "end", "label"}, {"video", "time", "label"}
EXPECTED = "expected video,begin,end,label (of clips) or video,time,label (of frames), seconds, and split if wanted"


class Labelled(NamedTuple):
    """A part of a video with its labels.

    Attributes:
        video: Its name.
        begin: Seconds.
        end: Seconds; of a frame the same.
        labels: Of a clip one, of a frame any number.
    """

    video: str
    begin: float
    end: float
    labels: frozenset[str]


class Labels(NamedTuple):
    """What a file of labels says.

    Attributes:
        kind: What is labelled.
        names: All labels, sorted.
        train: What is learned from.
        test: What is scored, of other videos.
    """

    kind: Literal["clip", "frame"]
    names: tuple[str, ...]
    train: tuple[Labelled, ...]
    test: tuple[Labelled, ...]

    @property
    def videos(self) -> tuple[str, ...]:
        """The names of all videos, sorted."""
        return tuple(sorted({part.video for part in (*self.train, *self.test)}))


def read_labels(path: Path, folder: Path, *, test_fraction: float, seed: int) -> Labels:
    """Read and split; a column ``split`` of train and test decides, else whole videos are drawn.

    Args:
        path: The CSV file, with a line of headings. A frame may have several lines, and one without a label is of none.
        folder: The videos, which lines name by their paths in it.
        test_fraction: The part of the videos that is drawn to be scored.
        seed: Which.

    Raises:
        BankFileNotFoundError: There is no such file.
        FileFormatError: It is no such table.
        BankValueError: A value is not one, a video is not there or in both parts, or a part is empty.
    """
    kind, lines = _lines(path)
    parts: dict[tuple[str, float, float], set[str]] = {}
    given: dict[str, str] = {}
    for number, line in lines:
        where = f"{path}, line {number}"
        key = _span(where, kind, line, folder)
        label = line["label"].strip()
        if kind == "clip" and (not label or key in parts):
            count = "a second" if label else "no"
            msg = f"{where}: the clip of {key[0]} at {key[1]:g} s has {count} label; expected one"
            raise BankValueError(msg)
        parts.setdefault(key, set()).update({label} if label else ())
        _note_split(where, given, key[0], line.get("split"))
    if not parts:
        msg = f"{path} has no line under its headings; {EXPECTED}"
        raise FileFormatError(msg)
    split = given or _drawn(sorted({key[0] for key in parts}), test_fraction, seed)
    labelled = [Labelled(*key, frozenset(labels)) for key, labels in sorted(parts.items())]
    train, test = (tuple(part for part in labelled if split[part.video] == name) for name in ("train", "test"))
    if not train or not test:
        msg = f"{path} leaves {len(train)} labelled parts to learn from and {len(test)} to score; expected some of both"
        raise BankValueError(msg)
    return Labels(kind, tuple(sorted(set().union(*parts.values()))), train, test)


def _lines(path: Path) -> tuple[Literal["clip", "frame"], list[tuple[int, dict[str, str]]]]:
    if not path.is_file():
        msg = f"there is no file of labels {path}"
        raise BankFileNotFoundError(msg)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            lines = [(reader.line_num, line) for line in reader]
            headings = set(reader.fieldnames or ()) - {"split"}
    except (csv.Error, UnicodeDecodeError) as error:
        msg = f"{path} is not a CSV file ({error}); {EXPECTED}"
        raise FileFormatError(msg) from error
    if headings not in (CLIP, FRAME):
        msg = f"{path} has the headings {', '.join(sorted(headings)) or 'of nothing'}; {EXPECTED}"
        raise FileFormatError(msg)
    return "clip" if headings == CLIP else "frame", lines


def _span(where: str, kind: str, line: Mapping[str, str], folder: Path) -> tuple[str, float, float]:
    name = line["video"].strip()
    if not name or not (folder / name).is_file():
        msg = f"{where}: there is no video {name!r} in {folder}; expected the name of a file, such as hall.mp4"
        raise BankValueError(msg)
    begin, end = (_seconds(where, line[column]) for column in (("begin", "end") if kind == "clip" else ("time",) * 2))
    if kind == "clip" and end <= begin:
        msg = f"{where}: the clip ends at {end:g} s and begins at {begin:g} s; expected an end after the begin"
        raise BankValueError(msg)
    return name, begin, end


def _seconds(where: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        msg = f"{where}: {text!r} is no time; expected seconds from 0 on, such as 12.5"
        raise BankValueError(msg)
    return seconds


def _note_split(where: str, given: dict[str, str], video: str, text: str | None) -> None:
    if text is None:
        return
    part = text.strip()
    if part not in ("train", "test"):
        msg = f"{where}: the split is {part!r}; expected train or test in each line, or no such column"
        raise BankValueError(msg)
    if given.setdefault(video, part) != part:
        msg = (
            f"{where}: {video} is in train and in test; expected each video in one of them, or its past would be known"
        )
        raise BankValueError(msg)


def _drawn(videos: Sequence[str], test_fraction: float, seed: int) -> dict[str, str]:
    if not 0 < test_fraction < 1:
        msg = f"test_fraction is {test_fraction}; expected a part of the videos between 0 and 1, such as 0.5"
        raise BankValueError(msg)
    shuffled = random.Random(seed).sample(list(videos), len(videos))
    test = set(shuffled[: round(test_fraction * len(videos))])
    return {video: "test" if video in test else "train" for video in videos}
