"""Queries with their nearest images: what a score looks like."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torchbank.data import LabelledImages
from torchbank.evaluation import retrieval_examples
from torchbank.report._style import GREEN, GREY, VERMILION, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes


CROSS = "\N{MULTIPLICATION SIGN}"
# Places are one apart; an image fills a little less, and a gap parts the query from its neighbours.
_HALF, _GAP = 0.45, 0.35


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
            _show(axes, images, int(chosen[row]), 0, row)
            _frame(axes, 0, row, color="#BBBBBB", linewidth=1)
            for column in range(columns):
                place = column + 1 + _GAP
                _show(axes, images, int(nearest[row, column]), place, row)
                _judge(axes, place, row, right=bool(correct[row, column]))
        for place, word in ((0, "query"), (1 + _GAP, "nearest first")):
            axes.text(place - _HALF, -_HALF - 0.1, word, fontsize=13, fontweight="bold", va="bottom")
        axes.set_title(f"{int(correct.sum())} of {correct.numel()} nearest images are of the query's class")
        figure.supxlabel(
            f"solid frame: right class      dashed frame and {CROSS}: another class      queries drawn at random",
            fontsize=12,
            color=GREY,
        )


def _show(axes: "Axes", images: LabelledImages, index: int, x: float, y: float) -> None:
    """Draw an image in the unit square around a place, one axes for all: many axes are slow."""
    pixels = images.image(index).permute(1, 2, 0).numpy()
    gray = pixels.shape[2] == 1
    axes.imshow(
        np.squeeze(pixels, 2) if gray else pixels,
        cmap="gray" if gray else None,
        vmin=0,
        vmax=1,
        extent=(x - _HALF, x + _HALF, y + _HALF, y - _HALF),
        aspect="equal",
    )


def _judge(axes: "Axes", x: float, y: float, *, right: bool) -> None:
    if right:
        _frame(axes, x, y, color=GREEN, linewidth=3.5)
        return
    _frame(axes, x, y, color=VERMILION, linewidth=3.5, linestyle=(0, (2, 1.2)))
    axes.text(
        x + _HALF - 0.02,
        y - _HALF + 0.02,
        CROSS,
        ha="right",
        va="top",
        color="white",
        fontsize=12,
        fontweight="bold",
        bbox={"boxstyle": "square,pad=0.12", "facecolor": VERMILION, "edgecolor": "none"},
    )


def _frame(axes: "Axes", x: float, y: float, **look: Any) -> None:
    from matplotlib.patches import Rectangle

    side = 2 * _HALF
    axes.add_patch(Rectangle((x - _HALF, y - _HALF), side, side, fill=False, **look))
