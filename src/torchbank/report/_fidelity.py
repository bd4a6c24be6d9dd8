"""What staleness costs: how well the gradient from old rows agrees with that from the same rows as they are now."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torchbank.errors import BankValueError
from torchbank.report._style import BLUE, GREY, mark_step, picture, thousands

# A mean over fewer measurements is not drawn.
FEWEST_MEASUREMENTS = 3


def plot_fidelity(
    fidelity: Mapping[str, Sequence[int | float]],
    path: str | Path,
    *,
    oldest: int | None = None,
) -> None:
    """Draw gradient fidelity over the age of rows.

    Args:
        fidelity: ``age`` in steps, the ``mean`` and ``p10`` of the measured cosines, and their ``count``
            (`torchbank.drift.FidelityByAge`).
        path: The PNG to write.
        oldest: The age of the oldest row of the memory in use, to be marked.

    Raises:
        BankValueError: Too little was measured.
    """
    often = [index for index, count in enumerate(fidelity["count"]) if count >= FEWEST_MEASUREMENTS]
    if not often:
        msg = f"no age has {FEWEST_MEASUREMENTS} measurements of fidelity; train for more passes over the images"
        raise BankValueError(msg)
    ages, means, lower = ([fidelity[name][index] for index in often] for name in ("age", "mean", "p10"))
    with picture(Path(path)) as figure:
        axes = figure.subplots()
        axes.fill_between(ages, lower, means, color=BLUE, alpha=0.18, linewidth=0)
        axes.plot(ages, means, color=BLUE, marker="o", markersize=6, label="mean over measurements")
        axes.plot(ages, lower, color=BLUE, linestyle="--", linewidth=1.6, label="10th percentile")
        axes.set(
            xlabel="age of the stored rows (training steps)",
            ylabel="cosine of the gradient from stored rows\nwith that from rows encoded now",
            xlim=(0, None),
            ylim=(min(0.0, *lower) - 0.05, 1.05),
        )
        axes.axhline(0, color=GREY, linewidth=1.2)
        mark_step(axes, oldest, "oldest row in the memory")
        axes.set_title(f"Rows {ages[-1]:,.0f} steps old keep a gradient fidelity of {means[-1]:.2f}")
        thousands(axes.xaxis)
        axes.legend(loc="upper right")
