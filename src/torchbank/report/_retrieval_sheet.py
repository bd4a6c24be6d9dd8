"""Queries with their nearest images: what a score looks like."""

from pathlib import Path
from typing import TYPE_CHECKING

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
        neighbors: How many images for each.
        seed: Which queries: drawn at random, not chosen.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[:queries]
    nearest, correct = retrieval_examples(embeddings, images.labels, queries=chosen, k=neighbors)
    rows, columns = len(chosen), nearest.shape[1]
    with picture(Path(path), width=0.92 * (columns + 1.35), height=0.92 * rows + 1.5) as figure:
        grid = figure.subplots(rows, columns + 2, width_ratios=[1, 0.35, *[1] * columns], squeeze=False)
        for row in range(rows):
            _show(grid[row, 0], images, int(chosen[row]))
            grid[row, 1].axis("off")
            for column in range(columns):
                axes = grid[row, column + 2]
                _show(axes, images, int(nearest[row, column]))
                _frame(axes, right=bool(correct[row, column]))
        grid[0, 0].set_title("query", loc="center", fontsize=13)
        grid[0, 2].set_title("nearest first", loc="left", fontsize=13)
        figure.suptitle(
            f"{int(correct.sum())} of {correct.numel()} nearest images are of the query's class",
            fontsize=16,
            fontweight="bold",
            x=0.01,
            ha="left",
        )
        figure.supxlabel(
            f"solid frame: right class      dashed frame and {CROSS}: another class      queries drawn at random",
            fontsize=12,
            color=GREY,
        )


def _show(axes: "Axes", images: LabelledImages, index: int) -> None:
    pixels = images.image(index).permute(1, 2, 0).numpy()
    gray = pixels.shape[2] == 1
    axes.imshow(np.squeeze(pixels, 2) if gray else pixels, cmap="gray" if gray else None, vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color="#BBBBBB", linewidth=1)


def _frame(axes: "Axes", *, right: bool) -> None:
    for spine in axes.spines.values():
        spine.set(
            visible=True,
            color=GREEN if right else VERMILION,
            linewidth=3.5,
            linestyle="solid" if right else (0, (2, 1.2)),
        )
    if not right:
        axes.text(
            0.98,
            0.98,
            CROSS,
            transform=axes.transAxes,
            ha="right",
            va="top",
            color="white",
            fontsize=12,
            fontweight="bold",
            bbox={"boxstyle": "square,pad=0.12", "facecolor": VERMILION, "edgecolor": "none"},
        )
