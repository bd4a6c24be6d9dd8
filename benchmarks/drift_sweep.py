"""When a memory helps and when it hurts: capacity x start x cure, on kanji.

python -m benchmarks.drift_sweep                             # goes on where it was stopped
python -m benchmarks.drift_sweep --seeds 0 --capacities 1    # a ninth of it

The setting is that of `torchbank demo` with half of its network's width and half of its steps. Each run trains in a
process of its own. Writes results/drift-sweep.json, the table of docs/drift.md and its picture.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from torchbank import encoders, methods, training
from torchbank.cli._config import RunConfig
from torchbank.report import Spread, _style

from .documents import ROOT
from .jobs import Job, Record
from .self_supervised import load
from .study import options, run_study

NAME = "drift-sweep"
PAGE = ROOT / "docs" / "drift.md"
PICTURE = ROOT / "docs" / "images" / "drift-sweep.png"

STEPS, BATCH, SEEDS = 1_000, 16, (0, 1, 2)
WIDTHS = (16, 32, 64, 128)
# Shares of the training images. The oldest row of a full memory is 92, 276 and 922 steps old.
CAPACITIES = (0.1, 0.3, 1.0)
# A memory that begins at once begins empty; one that begins later begins with the images as they are encoded then.
STARTS = (0, 200)


class Cure(NamedTuple):
    """What is done about staleness: its title, its settings and its look."""

    title: str
    config: Record
    color: str
    marker: str


PLAIN = "plain"
CURES = {
    PLAIN: Cure("plain memory", {}, _style.VERMILION, "s"),
    "gate": Cure("age gate, 50 steps", {"max_age": 50}, _style.ORANGE, "D"),
    "half-life": Cure("half-life, 100 steps", {"half_life": 100}, _style.ORANGE, "v"),
    "axbn": Cure("moment matching (AXBN)", {"correction": "axbn"}, _style.GREEN, "^"),
    "sdc": Cure("local drift (SDC)", {"correction": "sdc"}, _style.GREEN, "P"),
    "auto": Cure("automatic gate", {"max_age": "auto"}, _style.BLUE, "o"),
}
NONE = "no memory"


def jobs(chosen: argparse.Namespace) -> list[Job]:
    """One seed after the other, so that what is there when a run is stopped is whole seeds."""
    found = []
    for seed in chosen.seeds:
        for who, config in settings(chosen.capacities):
            name = "-".join([who["cure"], *(f"{word}{who[word]}" for word in ("capacity", "start") if word in who)])
            shared = {"seed": seed, "steps": chosen.steps, "batch": chosen.batch, "tiny": chosen.tiny, "config": config}
            found.append(Job(f"{name.replace(' ', '-')}-seed{seed}", {**who, **shared}))
    return found


def settings(capacities: Iterable[float]) -> list[tuple[Record, Record]]:
    """What each run is called by, and its settings of XBM."""
    found: list[tuple[Record, Record]] = [({"cure": NONE}, {"memory": False})]
    for capacity in capacities:
        for start in STARTS:
            for cure, (_, config, *_) in CURES.items():
                memory = {"capacity": capacity, "start_step": start, "prefill": start > 0}
                found.append(({"cure": cure, "capacity": capacity, "start": start}, {**memory, **config}))
        memory = {"capacity": capacity, "start_step": "auto"}
        found.append(({"cure": "auto", "capacity": capacity, "start": "auto"}, {**memory, **CURES["auto"].config}))
    return found


def work(settings: Record) -> Record:
    """Train once: a job of `benchmarks.jobs`."""
    words = [f"{name.replace('_', '-')}={value}" for name, value in settings["config"].items()]
    run = [f"steps={settings['steps']}", f"seed={settings['seed']}", "evaluate-every=0", "checkpoint-every=0"]
    config = RunConfig.default("xbm").with_settings([*words, *run]).with_batch_size(settings["batch"]).resolved()
    split = load("kanji", tiny=settings["tiny"])
    training.seed_everything(settings["seed"])
    encoder = encoders.ConvNet(config.method.dim, channels=1, widths=WIDTHS)
    method: Any = methods.build("xbm", encoder, config.method, dataset_size=len(split.train))
    summary = training.fit(method, split, config.training).summary
    return {
        "map_at_r": summary["scores"]["map_at_r"],
        "recall_at_1": summary["scores"]["recall_at_1"],
        "minutes": summary["timing"]["seconds_in_steps"] / 60,
        "started": int(method.started),
        "age_limit": float(method.gate.limit),
        "drift": summary["drift"],
        "fidelity": summary["fidelity"],
    }


def capacities_of(runs: list[Record]) -> list[float]:
    """Those that were run, ascending."""
    return sorted({run["capacity"] for run in runs if "capacity" in run})


def spread(runs: list[Record], **who: Any) -> Spread | None:
    """MAP@R in % over the seeds of one setting; None for one that was not run."""
    values = [100 * run["map_at_r"] for run in runs if all(run.get(word) == value for word, value in who.items())]
    return Spread(tuple(values)) if values else None


def markdown(runs: list[Record]) -> str:
    """A row for each capacity and start, a column for each cure."""
    seeds = len({run["seed"] for run in runs})
    baseline = spread(runs, cure=NONE)
    columns = list(CURES)
    lines = [
        f"![MAP@R over capacity for each cure](images/{PICTURE.name})",
        "",
        f"MAP@R on unseen characters in %, {runs[0]['steps']:,} steps of {runs[0]['batch']} images, "
        + (f"mean ± standard deviation of {seeds} seeds" if seeds > 1 else "one seed")
        + f". Without memory: **{baseline}**.",
        "",
        f"| capacity | start | {' | '.join(CURES[cure].title for cure in columns)} |",
        f"|---|---|{'---|' * len(columns)}",
    ]
    for capacity in capacities_of(runs):
        for start in (*STARTS, "auto"):
            cells = [spread(runs, cure=cure, capacity=capacity, start=start) for cure in columns]
            shown = " | ".join("-" if cell is None else str(cell) for cell in cells)
            lines.append(f"| {capacity:.0%} of the images | {'automatic' if start == 'auto' else start} | {shown} |")
    return "\n".join(lines)


def draw(runs: list[Record], path: Path) -> None:
    """A panel for each start: MAP@R over capacity, a line for each cure, and the height of no memory."""
    baseline, capacities = spread(runs, cure=NONE), capacities_of(runs)
    with _style.picture(path, width=13, height=5.8) as figure:
        panels = figure.subplots(1, len(STARTS), sharey=True)
        for axes, start in zip(panels, STARTS, strict=True):
            axes.axhline(baseline.mean, color=_style.GREY, linewidth=1.8)
            for cure, (title, _, color, marker) in CURES.items():
                found = [(c, spread(runs, cure=cure, capacity=c, start=start)) for c in capacities]
                there = [(100 * capacity, each) for capacity, each in found if each is not None]
                axes.errorbar(
                    [capacity for capacity, _ in there],
                    [each.mean for _, each in there],
                    yerr=[each.deviation or 0.0 for _, each in there],
                    color=color,
                    marker=marker,
                    markersize=8,
                    linestyle="-" if cure in (PLAIN, "auto") else "--",
                    linewidth=2.4 if cure in (PLAIN, "auto") else 1.4,
                    capsize=4,
                    label=title,
                )
            ticks = [100 * capacity for capacity in capacities]
            axes.set(xscale="log", xlabel="capacity (% of the training images)")
            axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
            axes.minorticks_off()
            begins = "begins empty at step 0" if start == 0 else f"begins full at step {start}"
            axes.set_title(f"Memory {begins}", fontsize=14)
        panels[0].annotate(
            f"no memory, {baseline.mean:.1f}",
            xy=(0, baseline.mean),
            xycoords=panels[0].get_yaxis_transform(),
            xytext=(6, 4),
            textcoords="offset points",
            color=_style.GREY,
        )
        panels[0].set(ylabel="MAP@R on unseen characters (%)", ylim=(0, None))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        figure.suptitle(headline(runs), fontsize=16, fontweight="bold", x=0.01, ha="left")


def headline(runs: list[Record]) -> str:
    """Where plain memory does worst, and what the automatic gate makes of that."""
    cells = [(capacity, start) for capacity in capacities_of(runs) for start in STARTS]
    plain = {cell: spread(runs, cure=PLAIN, capacity=cell[0], start=cell[1]) for cell in cells}
    worst = min(cells, key=lambda cell: plain[cell].mean)
    gated = spread(runs, cure="auto", capacity=worst[0], start=worst[1])
    baseline = spread(runs, cure=NONE)
    return (
        f"Worst plain memory: MAP@R {plain[worst].mean:.1f} against {baseline.mean:.1f} without; "
        f"with the automatic gate {gated.mean:.1f}"
    )


def main(arguments: list[str] | None = None) -> None:
    """Parse, run what has no result yet, write the file, the table and the picture."""
    parser = options(NAME, __doc__, steps=STEPS, batch=BATCH, seeds=SEEDS)
    parser.add_argument("--capacities", nargs="+", type=float, default=list(CAPACITIES), help="shares of the images")
    parser.add_argument("--tiny", action="store_true", help="few images; give few --steps, and --out and --picture")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    chosen = parser.parse_args(arguments)
    run_study(NAME, jobs(chosen), chosen, markdown, page=PAGE)
    draw(json.loads(chosen.out.read_text())["runs"], chosen.picture)


if __name__ == "__main__":
    main()
