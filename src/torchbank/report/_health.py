"""Whether training collapses or its memory goes stale: what methods log beside their loss, in small panels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchbank.errors import BankValueError
from torchbank.report._curves import Metrics, series
from torchbank.report._drift import FEWEST_REVISITS
from torchbank.report._style import BLUE, GREEN, GREY, VERMILION, picture, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Any of these makes a picture worth drawing.
_SIGNS = ("collapsed_loss", "embedding_std", "winner_entropy", "positive_similarity")


@dataclass(frozen=True)
class _Curve:
    """One logged value of a panel: its name, its word, and a look that differs without colour too."""

    name: str
    word: str
    color: str = BLUE
    line: str = "-"


@dataclass(frozen=True)
class _Panel:
    """Curves of one scale over training steps.

    Args:
        title: What is shown.
        curves: Those that were logged are drawn; the panel is left out without the first.
        limits: Of the vertical axis.
        marks: Heights of dotted lines, with a word each.
    """

    title: str
    curves: tuple[_Curve, ...]
    limits: tuple[float | None, float | None] = (None, None)
    marks: tuple[tuple[float, str], ...] = ()


_PANELS = (
    _Panel("Loss", (_Curve("loss", "loss"), _Curve("collapsed_loss", "if all embeddings were equal", VERMILION, "--"))),
    _Panel(
        "Spread of the embeddings",
        (_Curve("embedding_std", "embeddings"),),
        (0, 1.15),
        ((1.0, "uniform on the sphere"), (0.0, "collapsed")),
    ),
    _Panel(
        "Entropy of the slots that win",
        (_Curve("winner_entropy", "winners"),),
        (0, 1.15),
        ((1.0, "every query another slot"), (0.0, "one slot wins all")),
    ),
    _Panel(
        "Cosine similarity",
        (
            _Curve("positive_similarity", "positives", GREEN),
            _Curve("negative_similarity", "negatives", VERMILION, "--"),
        ),
    ),
    _Panel("Mean age of the memory (steps)", (_Curve("memory_age", "age"),), (0, None)),
)


def has_health(metrics: Metrics) -> bool:
    """Whether a run logged anything that `plot_health` is for.

    Args:
        metrics: The lines of a ``metrics.jsonl`` (`torchbank.training.read_metrics`).
    """
    return any(_logged(metrics, sign) for sign in _SIGNS)


def plot_health(
    metrics: Metrics, path: str | Path, *, drift: Mapping[str, Sequence[int | float]] | None = None
) -> None:
    """Draw the signs of collapse and staleness that were logged, a small panel each.

    Args:
        metrics: The lines of a ``metrics.jsonl`` (`torchbank.training.read_metrics`).
        path: The PNG to write.
        drift: As for `plot_drift`, for a panel of its own; None, or too little measured, draws none.

    Raises:
        BankValueError: The metrics hold no sign of health.
    """
    if not has_health(metrics):
        names = ", ".join(f"train/{sign}" for sign in _SIGNS)
        msg = f"the metrics hold none of {names}; draw the health of a method that logs them"
        raise BankValueError(msg)
    draw: list[Callable[..., None]] = [
        lambda axes, panel=panel: _draw(axes, metrics, panel)
        for panel in _PANELS
        if _logged(metrics, panel.curves[0].name)
    ]
    if drift is not None and max(drift["count"], default=0) >= FEWEST_REVISITS:
        draw.append(lambda axes: _draw_drift(axes, drift))
    columns = min(3, len(draw))
    rows = -(-len(draw) // columns)
    with picture(Path(path), width=4.6 * columns + 0.4, height=3.5 * rows + 0.6) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, panel in zip(panels, draw, strict=False):
            panel(axes)
            thousands(axes.xaxis)
        for axes in panels[len(draw) :]:
            axes.axis("off")
        figure.suptitle(_verdict(metrics), fontsize=16, fontweight="bold", x=0.01, ha="left")


def _logged(metrics: Metrics, name: str) -> bool:
    return any(f"train/{name}" in line for line in metrics)


def _draw(axes: "Axes", metrics: Metrics, panel: _Panel) -> None:
    curves = [curve for curve in panel.curves if _logged(metrics, curve.name)]
    for curve in curves:
        steps, values = series(metrics, f"train/{curve.name}")
        axes.plot(steps, values, color=curve.color, linestyle=curve.line, linewidth=1.8, label=curve.word)
    axes.set(xlabel="training step", ylim=panel.limits, xlim=(0, None))
    axes.set_title(panel.title, fontsize=13)
    for height, word in panel.marks:
        axes.axhline(height, color=GREY, linestyle=":", linewidth=1.6)
        axes.annotate(
            word,
            xy=(0, height),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, 3),
            textcoords="offset points",
            color=GREY,
            fontsize=11,
        )
    if len(curves) > 1:
        axes.legend(fontsize=11)


def _draw_drift(axes: "Axes", drift: Mapping[str, Sequence[int | float]]) -> None:
    often = [index for index, count in enumerate(drift["count"]) if count >= FEWEST_REVISITS]
    ages, means = ([drift[name][index] for index in often] for name in ("age", "mean"))
    axes.plot(ages, means, color=BLUE, marker="o", markersize=5, linewidth=1.8)
    axes.set(xlabel="age of the stored embedding (steps)", xlim=(0, None), ylim=(0, None))
    axes.set_title("Drift (squared distance)", fontsize=13)


def _verdict(metrics: Metrics) -> str:
    """What the picture says in words: the last spread of the embeddings, or what there is of the loss."""
    if _logged(metrics, "embedding_std"):
        last = series(metrics, "train/embedding_std")[1][-1]
        return f"Embeddings end with {100 * last:.0f} % of the spread of uniform ones"
    if _logged(metrics, "collapsed_loss"):
        loss, collapsed = (series(metrics, f"train/{name}")[1][-1] for name in ("loss", "collapsed_loss"))
        return f"Loss ends at {loss:.2f}; collapsed, it would be {collapsed:.2f}"
    return "Health of the training"
