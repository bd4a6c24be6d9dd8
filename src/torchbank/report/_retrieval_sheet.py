"""Queries with their nearest images: what a score looks like."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from torchbank.data import LabelledImages
from torchbank.evaluation import retrieval_examples
from torchbank.report._image_cells import HALF, frame_image, show_image
from torchbank.report._style import GREEN, GREY, VERMILION, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes


CROSS = "\N{MULTIPLICATION SIGN}"
# What parts the query from its neighbours, beside the place of one.
_GAP = 0.35


def plot_retrieval_sheet(
    images: LabelledImages,
    embeddings: Float[Tensor, "n dim"],
    path: str | Path,
    *,
    queries: int = 8,
    neighbors: int = 9,
    seed: int = 0,
) -> None:
    """Draw random queries, each with the images nearest to it, right and wrong ones framed differently.

    Args:
        images: The images, all of them a gallery for each query.
        embeddings: ``(n, dim)``, one row an image.
        path: The PNG to write.
        queries: How many queries.
        neighbors: How many images for each, or all others where there are fewer.
        seed: Which queries: drawn at random, not chosen.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[:queries]
    neighbors = min(neighbors, len(images) - 1)
    nearest, correct = retrieval_examples(embeddings, images.labels, queries=chosen, k=neighbors)
    rows, columns = nearest.shape
    with picture(Path(path), width=0.92 * (columns + 1.6), height=0.92 * rows + 1.5) as figure:
        axes = figure.subplots()
        axes.set(xlim=(-0.5, columns + _GAP + 0.5), ylim=(rows - 0.5, -0.8), aspect="equal")
        axes.axis("off")
        for row in range(rows):
            show_image(axes, images, int(chosen[row]), 0, row)
            frame_image(axes, 0, row, color="#BBBBBB", linewidth=1)
            for column in range(columns):
                place = column + 1 + _GAP
                show_image(axes, images, int(nearest[row, column]), place, row)
                _judge(axes, place, row, right=bool(correct[row, column]))
        for place, word in ((0, "query"), (1 + _GAP, "nearest first")):
            axes.text(place - HALF, -HALF - 0.1, word, fontsize=13, fontweight="bold", va="bottom")
        axes.set_title(f"{int(correct.sum())} of {correct.numel()} nearest images are of the query's class")
        figure.supxlabel(
            f"solid frame: right class      dashed frame and {CROSS}: another class      queries drawn at random",
            fontsize=12,
            color=GREY,
        )


def _judge(axes: "Axes", x: float, y: float, *, right: bool) -> None:
    if right:
        frame_image(axes, x, y, color=GREEN, linewidth=3.5)
        return
    frame_image(axes, x, y, color=VERMILION, linewidth=3.5, linestyle=(0, (2, 1.2)))
    axes.text(
        x + HALF - 0.02,
        y - HALF + 0.02,
        CROSS,
        ha="right",
        va="top",
        color="white",
        fontsize=12,
        fontweight="bold",
        bbox={"boxstyle": "square,pad=0.12", "facecolor": VERMILION, "edgecolor": "none"},
    )
