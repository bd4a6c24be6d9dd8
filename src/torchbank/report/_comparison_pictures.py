"""Pictures of a comparison."""

from pathlib import Path
from typing import TYPE_CHECKING

from torchbank.report._comparison import Comparison
from torchbank.report._style import BLUE, GREY, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = {"without": GREY, "with": BLUE}
_LINES = {"without": ("--", "s"), "with": ("-", "o")}


def plot_comparison(comparison: Comparison, path: str | Path) -> None:
    """Draw R@1 and MAP@R without and with memory: the mean over seeds, its spread, and each seed.

    Args:
        comparison: Runs of one batch size (the first is drawn, if there are several).
        path: The PNG to write.
    """
    size = comparison.batch_sizes[0]
    with picture(Path(path)) as figure:
        panels = figure.subplots(1, 2)
        for axes, name, word in zip(panels, ("recall_at_1", "map_at_r"), ("R@1", "MAP@R"), strict=True):
            _bars(axes, comparison, size, name)
            axes.set_ylabel(f"{word} on unseen classes (%)")
        seeds = len(comparison.seeds)
        gain = comparison.gain(size, "map_at_r")
        title = f"Batch {size}: retrieval without and with memory"
        if gain is not None:
            spread = "" if gain.deviation is None else f" ± {gain.deviation:.1f}"
            verb = "adds" if gain.mean >= 0 else "costs"
            title = f"Batch {size}: memory {verb} {abs(gain.mean):.1f}{spread} points of MAP@R"
        figure.suptitle(title, fontsize=16, fontweight="bold", x=0.01, ha="left")
        figure.supxlabel(_legend_text(seeds), fontsize=12, color=GREY)


def _legend_text(seeds: int) -> str:
    if seeds == 1:
        return "one seed"
    return f"bar: mean of {seeds} seeds; line: standard deviation; dots: the seeds"


def _bars(axes: "Axes", comparison: Comparison, size: int, name: str) -> None:
    top = 0.0
    for place, memory in enumerate(memory for group, memory in comparison.groups if group == size):
        spread = comparison.measure(size, memory, name)
        deviation = spread.deviation or 0.0
        axes.bar(
            place,
            spread.mean,
            width=0.62,
            color=_COLORS[memory],
            alpha=0.85,
            hatch="//" if memory == "without" else None,
            edgecolor="white",
        )
        if spread.deviation is not None:
            axes.errorbar(place, spread.mean, yerr=deviation, color="black", capsize=8, linewidth=2)
            offsets = [place + 0.2 + 0.02 * index for index in range(len(spread.values))]
            axes.plot(offsets, spread.values, "o", color="black", markersize=4, linestyle="none")
        axes.annotate(
            f"{spread.mean:.1f}",
            xy=(place, spread.mean + deviation),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontweight="bold",
            fontsize=15,
            color=_COLORS[memory],
        )
        top = max(top, spread.mean + deviation)
    sides = [memory for group, memory in comparison.groups if group == size]
    axes.set(xticks=range(len(sides)), xticklabels=[f"{memory} memory" for memory in sides], ylim=(0, 1.15 * top))
    axes.grid(visible=False, axis="x")


def plot_batch_sizes(comparison: Comparison, path: str | Path) -> None:
    """Draw scores, time and memory against the batch size, without and with memory.

    Args:
        comparison: Runs of several batch sizes.
        path: The PNG to write.
    """
    with picture(Path(path), width=11.5, height=7.6) as figure:
        panels = figure.subplots(2, 2, sharex=True)
        _scores(panels[0, 0], comparison, "recall_at_1", "R@1 on unseen classes (%)")
        _scores(panels[0, 1], comparison, "map_at_r", "MAP@R on unseen classes (%)")
        _scores(panels[1, 0], comparison, "milliseconds_per_step", "time (ms per step)")
        _bytes(panels[1, 1], comparison)
        for axes in panels[1]:
            axes.set_xlabel("batch size (images)")
        for axes in panels.flat:
            axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
            axes.set_xscale("log", base=2)
            axes.set_xticks(comparison.batch_sizes, [str(size) for size in comparison.batch_sizes])
            axes.minorticks_off()
        panels[0, 0].legend(loc="lower right")
        seeds = len(comparison.seeds)
        means = "one seed" if seeds == 1 else f"means of {seeds} seeds, bars: standard deviation"
        figure.supxlabel(f"{means}; as many steps at each batch size", fontsize=12, color=GREY)
        figure.suptitle(_sweep_title(comparison), fontsize=16, fontweight="bold", x=0.01, ha="left")


def _scores(axes: "Axes", comparison: Comparison, name: str, label: str) -> None:
    for memory in dict.fromkeys(memory for _, memory in comparison.groups):
        sizes = [size for size, side in comparison.groups if side == memory]
        spreads = [comparison.measure(size, memory, name) for size in sizes]
        style, marker = _LINES[memory]
        axes.errorbar(
            sizes,
            [spread.mean for spread in spreads],
            yerr=[spread.deviation or 0.0 for spread in spreads],
            color=_COLORS[memory],
            linestyle=style,
            marker=marker,
            markersize=8,
            capsize=5,
            label=f"{memory} memory",
        )
    axes.set_ylabel(label)


def _bytes(axes: "Axes", comparison: Comparison) -> None:
    for memory in dict.fromkeys(memory for _, memory in comparison.groups):
        sizes = [size for size, side in comparison.groups if side == memory]
        totals = [
            comparison.measure(size, memory, "activation_megabytes").mean
            + comparison.measure(size, memory, "bank_megabytes").mean
            for size in sizes
        ]
        style, marker = _LINES[memory]
        axes.plot(sizes, totals, color=_COLORS[memory], linestyle=style, marker=marker, markersize=8)
    axes.set_ylabel("activations and bank (MB)")


def _sweep_title(comparison: Comparison) -> str:
    small, large = comparison.batch_sizes[0], comparison.batch_sizes[-1]
    sides = {memory for _, memory in comparison.groups}
    if sides != {"without", "with"} or small == large:
        return "Retrieval, time and memory against batch size"
    kept = comparison.measure(small, "with", "map_at_r").mean
    bought = comparison.measure(large, "without", "map_at_r").mean
    return f"MAP@R {kept:.1f} % at batch {small} with memory, {bought:.1f} % at batch {large} without"
