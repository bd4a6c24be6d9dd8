"""All kinds of scenes through all contestants."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from torchbank.errors import BankStateError
from torchbank.evaluation import open_set, tracking_scores
from torchbank.report import _style

from ..measure import machine
from . import tables
from .contestants import BUFFERS, DISTANCES, Output, byte_track, deep_sort, held_out_calibration, with_memory
from .scenes import KINDS, Kind, Scene, make
from .tables import MEMORY, best_alone, means

HELD_OUT = (100, 101)
"""Seeds that thresholds come from, ours and DeepSORT's; never scored."""
BASES = ("ByteTrack 30", "DeepSORT 30")


def run(seeds: Sequence[int], only: Sequence[str] | None, path: Path, images: Path) -> None:
    """Measure and write; a file is there after each kind, so that a stop loses one kind at most."""
    results = {"machine": machine("cpu"), "seeds": list(seeds), "held_out": list(HELD_OUT), "lines": []}
    for kind in KINDS.values():
        if only and kind.name not in only:
            continue
        setting = _held_out(kind)
        for seed in seeds:
            scene = make(kind, seed)
            for who, output, seconds in _contestants(scene, setting):
                for when in ("at the time", "corrected") if len(output.corrected) else ("at the time",):
                    line = {"scene": kind.name, "seed": seed, "who": who, "when": when, "seconds": round(seconds, 2)}
                    line |= _scores(scene, output, corrected=when == "corrected")
                    results["lines"].append(line)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(tables.scenes({"lines": [line for line in results["lines"] if line["scene"] == kind.name]}), flush=True)
    tables.write("tracking-scenes", path, tables.scenes(results))
    tables.write("tracking-deep-sort", path, tables.behind_deep_sort(results))
    draw(results, images / "tracking-scenes.png")


def _held_out(kind: Kind) -> dict:
    """What comes from held-out seeds: DeepSORT's distance (by labels), our threshold (without)."""
    scene = make(kind, HELD_OUT[0])
    best = max(DISTANCES, key=lambda distance: _scores(scene, deep_sort(scene, BUFFERS[-1], distance))["idf1"])
    setting = {"distance": best}
    for name, whiten in (("held-out", False), ("held-out, whitened", True)):
        try:
            calibration, adapt = held_out_calibration(kind, HELD_OUT, whiten=whiten)
        except BankStateError:
            continue
        setting[name] = {"threshold": calibration, "adapt": adapt}
    return setting


def _contestants(scene: Scene, setting: dict) -> Iterator[tuple[str, Output, float]]:
    """Name, output and seconds of each."""
    trackers = [(f"ByteTrack {buffer}", byte_track, (buffer,)) for buffer in BUFFERS]
    trackers += [(f"DeepSORT {age}", deep_sort, (age, 0.2)) for age in (BUFFERS[0], BUFFERS[-1])]
    trackers += [(f"DeepSORT {age}, tuned", deep_sort, (age, setting["distance"])) for age in BUFFERS[1:]]
    for name, make_output, arguments in trackers:
        begin = time.perf_counter()
        alone = make_output(scene, *arguments)
        yield name, alone, time.perf_counter() - begin
        if name in BASES:
            for how in ("self", "held-out", "held-out, whitened"):
                if how == "self" or how in setting:
                    begin = time.perf_counter()
                    output = with_memory(scene, alone.ids, **setting.get(how, {}))
                    yield f"{name}{MEMORY} {how}", output, time.perf_counter() - begin


def _scores(scene: Scene, output: Output, *, corrected: bool = False) -> dict:
    tracks = output.tracks(scene, corrected=corrected)
    arrivals = open_set(scene.truth, tracks)
    return tracking_scores(scene.truth, tracks).as_dict() | {
        "merge_rate": arrivals.merge_rate,
        "miss_rate": arrivals.miss_rate,
    }


def draw(results: dict, path: Path) -> None:
    """IDF1 and AssA by scene: the tracker, the best tracker of any buffer, and the tracker with memory."""
    kinds = list(dict.fromkeys(line["scene"] for line in results["lines"]))
    with _style.picture(path, width=12.5, height=7.8) as figure:
        panels = figure.subplots(2, 1, sharex=True)
        for axes, measure, label in zip(panels, ("idf1", "ass_a"), ("IDF1", "AssA"), strict=True):
            found = means(results["lines"], measure)
            memory = f"{BASES[0]}{MEMORY} self"
            series = {
                "ByteTrack alone, buffer 30": [found[kind, BASES[0], "at the time"] for kind in kinds],
                "best tracker alone, buffers up to 900 frames": [best_alone(found, kind)[1] for kind in kinds],
                "ByteTrack with memory, as known at the time": [found[kind, memory, "at the time"] for kind in kinds],
                "ByteTrack with memory, corrected afterwards": [found[kind, memory, "corrected"] for kind in kinds],
            }
            looks = ((_style.GREY, "//"), (_style.ORANGE, None), ("#56B4E9", None), (_style.BLUE, None))
            for place, ((name, values), (color, hatch)) in enumerate(zip(series.items(), looks, strict=True)):
                offsets = [number + 0.2 * (place - 1.5) for number in range(len(kinds))]
                axes.bar(offsets, values, width=0.19, color=color, label=name, hatch=hatch, edgecolor="white")
            axes.set(ylabel=label, ylim=(0, 1.02), xticks=range(len(kinds)), xticklabels=kinds)
            axes.grid(visible=False, axis="x")
        panels[1].tick_params(axis="x", rotation=20)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        figure.suptitle(
            "People who leave and return: how well identities last", fontsize=16, fontweight="bold", x=0.01, ha="left"
        )
