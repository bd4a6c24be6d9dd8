"""Whether embeddings drift slowly: how far they move in a fixed number of steps, as training goes on."""

from pathlib import Path

from torchbank.errors import BankValueError
from torchbank.report._curves import Metrics, series
from torchbank.report._style import BLUE, GREEN, VERMILION, mark_step, picture, thousands

_NAME = "train/drift_"
_LOOKS = ((BLUE, "o", "-"), (GREEN, "^", "--"), (VERMILION, "s", ":"))


def has_slow_drift(metrics: Metrics) -> bool:
    """Whether a run logged anything that `plot_slow_drift` is for.

    Args:
        metrics: The lines of a ``metrics.jsonl`` (`torchbank.training.read_metrics`).
    """
    return bool(_lags(metrics))


def plot_slow_drift(metrics: Metrics, path: str | Path, *, memory_start: int | None = None) -> None:
    """Draw the drift of a fixed set of images over each lag ([Wang et al. 2020, fig. 3](arXiv:1912.06798)).

    Args:
        metrics: The lines of a ``metrics.jsonl``, with ``train/drift_10`` and the like.
        path: The PNG to write.
        memory_start: The step from which a memory takes part, to be marked.

    Raises:
        BankValueError: The metrics hold no drift over a lag.
    """
    lags = _lags(metrics)
    if not lags:
        msg = (
            "the metrics hold no train/drift_10 or the like; train with monitor_drift=True for a hundred steps or more"
        )
        raise BankValueError(msg)
    with picture(Path(path)) as figure:
        axes = figure.subplots()
        for lag, (color, marker, line) in zip(lags, _LOOKS, strict=False):
            steps, values = series(metrics, f"{_NAME}{lag}")
            # Left of the first value lie only steps from which nothing is that old.
            axes.plot(steps, values, color=color, marker=marker, linestyle=line, markersize=6, label=f"{lag:,} steps")
        axes.set(
            xlabel="training step",
            ylabel="squared distance to the embedding before\n(0 the same, 2 unrelated)",
            xlim=(0, None),
            ylim=(0, None),
        )
        mark_step(axes, memory_start, "memory starts")
        steps, values = series(metrics, f"{_NAME}{lags[0]}")
        axes.set_title(f"In {lags[0]} steps embeddings move by {values[0]:.2g} at first, {values[-1]:.2g} at the end")
        thousands(axes.xaxis)
        axes.legend(title="moved in")


def _lags(metrics: Metrics) -> list[int]:
    """Which lags were logged, ascending."""
    names = {name for line in metrics for name in line if name.startswith(_NAME)}
    return sorted(int(name.removeprefix(_NAME)) for name in names)
