"""A million writes over 64 streams: the bytes of the process and the time of a step must stay flat.

python -m benchmarks.video.soak                 # every rule; about half a minute of an idle core for each
python -m benchmarks.video.soak --writes 64000 --only fifo

Each step reads for all streams and writes a row to each. Beside the rules stands a list that is appended to and read
in the same way, for so many steps that it can be paid. Time is processor time, which others on the machine hardly
change. Writes results/video-soak.json, its table in docs/video.md and
docs/images/video-soak.png.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

from torchbank import video
from torchbank.report import _style

from ..documents import ROOT, write_results, write_table

STREAMS, CAPACITY, DIM = 64, 32, 64
WINDOWS = 50
# An appended list is read in time that grows with its length.
APPENDED_STEPS = 1_500
RULES: dict[str, dict[str, Any]] = {
    "fifo": {},
    "uniform over lifetime": {"evict": video.UniformOverLifetime()},
    "least used": {"evict": video.LeastUsed(hysteresis=4)},
    "merged neighbours": {"compress": video.MergeNeighbours()},
    "prototypes": {"compress": video.Prototypes(4, 16), "evict": video.LeastUsed()},
    "novel rows": {"write": video.Novelty(0.1)},
}


class Appended:
    """Everything that was ever written, read by attention: what a memory is instead of."""

    def __init__(self) -> None:
        self.rows: list[torch.Tensor] = []

    def step(self, features: torch.Tensor, time: float) -> None:  # noqa: ARG002
        """Read all, then append."""
        if self.rows:
            rows = torch.stack(self.rows, dim=1)
            torch.nn.functional.scaled_dot_product_attention(features[:, None], rows, rows)
        self.rows.append(features)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(row.nbytes for row in self.rows)


def measure(name: str, make: Callable[[], Any], steps: int) -> dict[str, Any]:
    """Milliseconds of a step and bytes, window by window."""
    memory, generator = make(), torch.Generator().manual_seed(0)
    windows, spent = [], []
    length = max(2, steps // WINDOWS)
    begun = time.perf_counter()
    for step in range(steps):
        features = torch.randn(STREAMS, DIM, generator=generator)
        begin = time.thread_time()
        memory.step(features, float(step))
        spent.append(1e3 * (time.thread_time() - begin))
        if len(spent) == length:
            windows.append(
                {
                    "writes": (step + 1) * STREAMS,
                    "median_ms": round(median(spent), 4),
                    "p99_ms": round(quantiles(spent, n=100)[98], 4),
                    "memory_bytes": memory.nbytes,
                    "process_bytes": _resident(),
                }
            )
            spent = []
    return {"rule": name, "writes": steps * STREAMS, "windows": windows, "seconds": time.perf_counter() - begun}


def _resident() -> int:
    words = Path("/proc/self/statm").read_text().split()
    return int(words[1]) * 4096


def growth(run: dict[str, Any]) -> dict[str, float]:
    """The last fifth of a run compared with its second fifth, when everything is full and warm."""
    windows, fifth = run["windows"], max(1, len(run["windows"]) // 5)
    early, late = windows[fifth : 2 * fifth], windows[-fifth:]
    return {
        "time": median(window["median_ms"] for window in late) / median(window["median_ms"] for window in early),
        "process_megabytes": (late[-1]["process_bytes"] - early[0]["process_bytes"]) / 1e6,
        "memory_megabytes": (late[-1]["memory_bytes"] - early[0]["memory_bytes"]) / 1e6,
    }


def table(runs: list[dict[str, Any]]) -> str:
    """One line for each rule."""
    lines = [
        "| rule | writes | processor ms a step of 64 streams, median | 99th percentile | time, late against early | "
        "process grew by | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        late, grown = run["windows"][-1], growth(run)
        middle = median(window["median_ms"] for window in run["windows"])
        tail = median(window["p99_ms"] for window in run["windows"])
        lines.append(
            f"| {run['rule']} | {run['writes']:,} | {middle:.2f} | {tail:.2f} | {grown['time']:.2f} | "
            f"{grown['process_megabytes']:.1f} MB | {late['memory_bytes'] / 1e6:.2f} MB |"
        )
    return "\n".join(lines)


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Time and bytes by writes."""
    with _style.picture(path, width=10.5, height=7.0) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        for run in runs:
            writes = [window["writes"] / 1e6 for window in run["windows"]]
            style = {"linestyle": "--"} if run["rule"] == "appended" else {}
            upper.plot(writes, [window["median_ms"] for window in run["windows"]], label=run["rule"], **style)
            process = [window["process_bytes"] / 1e6 for window in run["windows"]]
            lower.plot(writes, [megabytes - process[0] for megabytes in process], **style)
        upper.set(ylabel="processor ms a step, median", ylim=(0, None))
        upper.legend(loc="upper right", fontsize=9, ncols=2)
        lower.set(ylabel="MB more in the process", xlabel="million writes", xlim=(0, None))
        figure.suptitle(
            f"{STREAMS} streams: time and memory stay flat", fontsize=16, fontweight="bold", x=0.01, ha="left"
        )


def main(arguments: list[str] | None = None) -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writes", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the JSON file")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder of the plot")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "video.md", help="the page of the table")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    steps = -(-chosen.writes // STREAMS)
    path = chosen.out / "video-soak.json"
    runs = {run["rule"]: run for run in json.loads(path.read_text())["runs"]} if path.exists() else {}
    for name in chosen.only:
        make = partial(video.TemporalMemory, DIM, CAPACITY, streams=STREAMS, **RULES[name])
        runs[name] = measure(name, make, steps)
        print(f"{name}: {growth(runs[name])}, {runs[name]['seconds']:.0f} s", flush=True)
        # Each as soon as it is done; rules that are not measured again stay.
        write_results(path, list(runs.values()))
    runs["appended"] = measure("appended", Appended, min(steps, APPENDED_STEPS))
    ordered = [runs[name] for name in (*RULES, "appended") if name in runs]
    write_results(path, ordered)
    write_table("video-soak", path, table(ordered), page=chosen.page)
    draw(ordered, chosen.images / "video-soak.png")


if __name__ == "__main__":
    main()
