"""The tables, words and plot of the tasks, from their results file."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from torchbank.report import _style

from ..documents import ROOT
from ..jobs import Record
from . import bank_head
from .contestants import CONTESTANTS
from .intervals import Interval, percent
from .scene import BINS, TASKS

PAGE = ROOT / "docs" / "video.md"
GOOD = 0.9
"""What a memory should reach."""
LAGS = [f"{low} to {min(high, 120)} s" for low, high in pairwise(BINS)]


def title(who: str) -> str:
    """What the page calls a contestant, or a rule of thumb."""
    return CONTESTANTS[who].title if who in CONTESTANTS else who


def lines(runs: Sequence[Record], task: str, who: str) -> list[Record]:
    """Those of one contestant, a seed each."""
    return [line for run in runs if run["task"] == task for line in run["lines"] if line["who"] == who]


def markdown(runs: Sequence[Record]) -> str:
    """A table for each task, then where each rule fails, the reads, the feature bank head."""
    parts = [_task(runs, task) for task in dict.fromkeys(run["task"] for run in runs)]
    head = [bank_head.markdown(runs)] if any("head" in run for run in runs) else []
    return "\n\n".join([*parts, _failures(runs), _reads(runs), *head, _leaks(runs)])


def _task(runs: Sequence[Record], task: str) -> str:
    mine = [run for run in runs if run["task"] == task]
    kind = TASKS[task][0]
    clips = percent([run["clip_accuracy"] for run in mine])
    out = [
        f"**{kind.title.capitalize()}** (accuracy in %, {len(mine)} seeds, 95 % intervals; the clip model is right "
        f"about {clips} % of single clips that matter; who sees the last clip only gets {100 * kind.chance:.0f} %):",
        "",
        f"| who | bytes | all lags | {' | '.join(LAGS)} |",
        f"|{'---|' * (3 + len(LAGS))}",
    ]
    for who in dict.fromkeys(line["who"] for line in mine[0]["lines"]):
        found = lines(runs, task, who)
        cells = [percent([line["accuracy"] for line in found])]
        cells += [percent([line["by_lag"][place] for line in found]) for place in range(len(LAGS))]
        size = f"{found[0]['bytes']:,}" if "bytes" in found[0] else ""
        out.append(f"| {title(who)} | {size} | {' | '.join(map(str, cells))} |")
    return "\n".join(out)


def _reads(runs: Sequence[Record]) -> str:
    """Reads of one memory."""
    tasks = list(dict.fromkeys(run["task"] for run in runs))
    out = [
        "**Reads** of the memory behind a quality gate (accuracy in %, all lags):",
        "",
        f"| read | {' | '.join(TASKS[task][0].title for task in tasks)} |",
        f"|{'---|' * (1 + len(tasks))}",
    ]
    for place, read in enumerate(line["read"] for line in runs[0]["reads"]):
        cells = [percent([run["reads"][place]["accuracy"] for run in runs if run["task"] == task]) for task in tasks]
        out.append(f"| {read} | {' | '.join(map(str, cells))} |")
    return "\n".join(out)


def _failures(runs: Sequence[Record]) -> str:
    """For each rule the first lag at which it falls below what a memory should reach."""
    tasks = list(dict.fromkeys(run["task"] for run in runs))
    out = [f"**Where each fails** (the first lags with less than {100 * GOOD:.0f} %):", ""]
    out += [f"| who | {' | '.join(TASKS[task][0].title for task in tasks)} |", f"|{'---|' * (1 + len(tasks))}"]
    for who in dict.fromkeys(line["who"] for line in runs[0]["lines"] if line["who"] in CONTESTANTS):
        out.append(f"| {title(who)} | {' | '.join(_first_failure(runs, task, who) for task in tasks)} |")
    return "\n".join(out)


def _first_failure(runs: Sequence[Record], task: str, who: str) -> str:
    found = lines(runs, task, who)
    for place, lag in enumerate(LAGS):
        mean = Interval.of([line["by_lag"][place] for line in found]).mean
        if mean < GOOD:
            return f"{lag}: {100 * mean:.0f} %"
    return "nowhere"


def _leaks(runs: Sequence[Record]) -> str:
    worst = max((leak for run in runs for leak in run["leaks"].values()), default=0.0)
    return (
        f"Future leak: in every memory and window, the second half of the films was exchanged; the largest change of "
        f"what was read in the first half is {worst:g}."
    )


def draw(runs: Sequence[Record], path: Path) -> None:
    """Accuracy against lag, a panel a task."""
    looks = {
        "window": (_style.GREY, "s", "-"),
        "wide": (_style.GREY, "s", "--"),
        "gru": (_style.VERMILION, "^", "-"),
        "every": (_style.ORANGE, "v", "-"),
        "uniform": (_style.ORANGE, "v", "--"),
        "quality": (_style.BLUE, "o", "-"),
        "merge": (_style.GREEN, "D", "-"),
    }
    tasks = list(dict.fromkeys(run["task"] for run in runs))
    centers = [(low + min(high, 120)) / 2 for low, high in pairwise(BINS)]
    with _style.picture(path, width=5.0 * len(tasks) + 0.8, height=5.6) as figure:
        panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
        for axes, task in zip(panels, tasks, strict=True):
            for who, (color, marker, line) in looks.items():
                found = lines(runs, task, who)
                if not found:
                    continue
                cells = [percent([one["by_lag"][place] for one in found]) for place in range(len(LAGS))]
                axes.errorbar(centers, [cell.mean for cell in cells], [cell.half for cell in cells], color=color,
                              marker=marker, linestyle=line, markersize=7, capsize=3, label=title(who))  # fmt: skip
            axes.axhline(100 * TASKS[task][0].chance, color="black", linestyle=":", linewidth=1.5, label="chance")
            axes.set(xlabel="seconds since it was seen", ylim=(0, 104), xlim=(0, 125))
            axes.set_title(TASKS[task][0].title)
        panels[0].set_ylabel("accuracy (%)")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        figure.suptitle(headline(runs), fontsize=16, fontweight="bold", x=0.01, ha="left")


def headline(runs: Sequence[Record]) -> str:
    """What the quality gate and the window know after the longest lag, over all tasks."""
    worst, best = (
        extreme(
            percent([line["by_lag"][-1] for line in lines(runs, task, who)]).mean
            for task in dict.fromkeys(run["task"] for run in runs)
        )
        for who, extreme in (("quality", min), ("window", max))
    )
    return (
        f"What was seen {LAGS[-1]} ago: a memory with a quality gate knows it in {worst:.0f} % or more, "
        f"a window in {best:.0f} % or less"
    )
