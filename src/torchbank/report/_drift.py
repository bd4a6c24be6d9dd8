"""How stale stored embeddings are."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torchbank.errors import BankValueError
from torchbank.report._style import BLUE, mark_step, picture, thousands

# A mean over fewer images is not drawn.
FEWEST_REVISITS = 30


def plot_drift(drift: Mapping[str, Sequence[int | float]], path: str | Path, *, oldest: int | None = None) -> None:
    """Draw how far an image's embedding moves while its old one lies in a memory.

    Args:
        drift: ``age`` in steps, the ``mean`` and ``p90`` of the squared distances between an image's embedding
            now and ``age`` steps ago, and the ``count`` of images behind each.
        path: The PNG to write.
        oldest: The age of the oldest row of the memory in use, to be marked.

    Raises:
        BankValueError: Too little was measured.
    """
    often = [index for index, count in enumerate(drift["count"]) if count >= FEWEST_REVISITS]
    if not often:
        msg = f"no age has {FEWEST_REVISITS} images that were seen again; train for more passes over the images"
        raise BankValueError(msg)
    ages, means, upper = ([drift[name][index] for index in often] for name in ("age", "mean", "p90"))
    with picture(Path(path)) as figure:
        axes = figure.subplots()
        axes.fill_between(ages, means, upper, color=BLUE, alpha=0.18, linewidth=0)
        axes.plot(ages, upper, color=BLUE, linestyle="--", linewidth=1.6, label="90th percentile")
        axes.plot(ages, means, color=BLUE, marker="o", markersize=6, label="mean over images")
        axes.set(
            xlabel="age of the stored embedding (training steps)",
            ylabel="squared distance to the embedding now\n(0 the same, 2 unrelated)",
            xlim=(0, None),
            ylim=(0, 1.25 * max(upper)),
        )
        mark_step(axes, oldest, "oldest row in the memory")
        shown = _closest(ages, oldest)
        axes.set_title(f"In {ages[shown]:,.0f} steps an embedding moves by {means[shown]:.2f} (squared distance)")
        thousands(axes.xaxis)
        axes.legend(loc="upper left")


def _closest(ages: Sequence[int | float], wanted: int | None) -> int:
    """The place of the age that was measured closest to the one wanted; the oldest, for None."""
    if wanted is None:
        return len(ages) - 1
    return min(range(len(ages)), key=lambda index: abs(ages[index] - wanted))
