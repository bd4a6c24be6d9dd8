"""`torchbank video`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from torchbank.cli._arguments import parse
from torchbank.cli._progress import progress_bar
from torchbank.cli._tables import print_paths, print_rows
from torchbank.cli._video_run import VideoPlan, score_videos

_DESCRIPTION = """See what a memory of the past adds to an encoder of images, on videos of your own.

Each video is a stream: its frames are encoded, and a temporal memory is read before each is stored. Linear classifiers
are trained on the features without and with what was read, and scored on videos that they have not seen.

labels.csv, of clips or of frames (times in seconds; split is optional):
  video,begin,end,label,split        video,time,label
  hall.mp4,12.5,14.5,opens,train     hall.mp4,12.5,person

examples:
  torchbank video --videos films --labels clips.csv --encoder timm:resnet50.a1_in1k --dim 256
  torchbank video --videos films --labels frames.csv --encoder torchscript:clip.pt --dim 512 --compress merge"""


@dataclass(frozen=True)
class _Arguments:
    """Which videos, what encodes them, and what is remembered.

    Args:
        videos: The folder of the videos.
        labels: The CSV file: video,begin,end,label or video,time,label, and split.
        encoder: As in torchbank train.
        weights: A file of the encoder's weights.
        dim: Length of its features.
        image_size: Height and width to which frames are scaled for it.
        every: Seconds from one frame that is encoded to the next.
        features: Where the features of all videos are kept; by default beside the run folder.
        capacity: Rows of the memory.
        stride: Of the encoded frames every n-th is stored.
        novelty: Only frames whose cosine distance to all stored ones is as large are stored.
        evict: Which row gives way.
        compress: How a full memory is compressed before one gives way.
        read: What is read.
        test_fraction: Part of the videos to score, where the labels do not say.
        seed: Which videos these are, and the weights of an encoder without any.
        plots: Of so many of the scored videos what the memory attended to is drawn.
        run: The folder to write.
    """

    videos: Path
    labels: Path
    encoder: Annotated[str, tyro.conf.arg(metavar="NAME")] = "convnet"
    weights: Path | None = None
    dim: int = 128
    image_size: int = 64
    every: float = 0.5
    features: Path | None = None
    capacity: int = 64
    stride: int = 1
    novelty: float | None = None
    evict: Literal["fifo", "uniform", "least-used"] = "fifo"
    compress: Literal["none", "merge", "prototypes"] = "none"
    read: Literal["attention", "average", "maximum", "nearest"] = "attention"
    test_fraction: float = 0.5
    seed: int = 0
    plots: int = 4
    run: Path = Path("runs/video")


def run(words: Sequence[str]) -> None:
    """Parse, score, tell."""
    arguments = parse(_Arguments, words, prog="torchbank video", description=_DESCRIPTION)
    result = score_videos(VideoPlan(**vars(arguments)), progress_bar=progress_bar)
    print_rows(result.title, ("", *result.headings), result.table)
    print_paths("written", result.files)
