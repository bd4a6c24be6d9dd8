"""Whether embeddings tell objects apart: the similarities a threshold was found from, and the virtual pillar."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from torchbank.report._style import BLUE, GREY, VERMILION, picture
from torchbank.tracking import Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_calibration(calibration: Calibration, path: str | Path) -> None:
    """Draw the similarities of one object with its past and of new objects with the best impostor, and the threshold.

    Args:
        calibration: From `torchbank.tracking.calibrate`, or a linker's own.
        path: The PNG to write.
    """
    low = float(min(calibration.genuine.min(initial=1), np.quantile(calibration.impostor, 0.001)))
    bins = np.linspace(max(-1.0, low) - 0.02, 1.02, 60)
    with picture(Path(path)) as figure:
        axes = figure.subplots()
        _histogram(axes, calibration.impostor, bins, VERMILION, "//", "another object: the best of those known")
        _histogram(axes, calibration.genuine, bins, BLUE, None, "the same object, seen before in its track")
        # Above the histograms there is room for the legend, and below it for the threshold.
        axes.set(xlim=(bins[0], bins[-1]), ylim=(0, 1.5 * axes.get_ylim()[1]), xlabel="cosine similarity", yticks=[])
        axes.set_ylabel("share")
        axes.legend(loc="upper left")
        if math.isfinite(calibration.threshold):
            _mark(axes, calibration.threshold)
            axes.set_title(
                f"{calibration.recall:.0%} of those who return would be known again, "
                f"{calibration.false_merge_rate:.0%} of the new mistaken",
                fontsize=14,
            )
        else:
            axes.set_title("These embeddings do not tell objects apart: nobody is given an old identity", fontsize=14)
        figure.supxlabel(
            f"without labels: {calibration.track_pairs:,} pairs of tracks that were in view at once are different "
            f"objects; among {calibration.gallery_size:,} known",
            fontsize=12,
            color=GREY,
        )


def _mark(axes: "Axes", threshold: float) -> None:
    axes.axvline(threshold, ymax=0.76, color="black", linestyle=":", linewidth=2)
    low, high = axes.get_xlim()
    right = threshold > low + 0.75 * (high - low)
    axes.annotate(
        f"threshold {threshold:.2f}",
        xy=(threshold, 0.76),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-6 if right else 6, -2),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top",
    )


def _histogram(axes: "Axes", values: np.ndarray, bins: np.ndarray, color: str, hatch: str | None, label: str) -> None:
    if not len(values):
        return
    weights = np.full(len(values), 1 / len(values))
    axes.hist(values, bins=bins.tolist(), weights=weights, color=color, alpha=0.55, label=label)
    axes.hist(values, bins=bins.tolist(), weights=weights, color=color, histtype="step", linewidth=2, hatch=hatch)


def plot_virtual_pillar(
    recovered: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: str | Path, *, unit: str = "seconds"
) -> None:
    """Draw which part of the hidden tracks got its identity back against the time it was hidden.

    Args:
        recovered: By name, such as "as they are" and "whitened": times, and parts in [0, 1].
        path: The PNG to write.
        unit: What a unit of time is called.
    """
    looks = ((GREY, "--", "s"), (BLUE, "-", "o"), (VERMILION, ":", "^"))
    with picture(Path(path)) as figure:
        axes = figure.subplots()
        for (name, (times, parts)), (color, line, marker) in zip(recovered.items(), looks, strict=False):
            shares = [100 * part for part in parts]
            axes.plot(times, shares, color=color, linestyle=line, marker=marker, markersize=8, label=name)
        axes.set(xlabel=f"hidden for ({unit})", ylabel="identities recovered (%)", ylim=(0, 104), xlim=(0, None))
        axes.legend(loc="lower left")
        axes.set_title("Hide each track behind a pillar: who gets the old identity back")
