"""What measuring drift costs a step of training: `python -m benchmarks.monitor_overhead` (two minutes).

Cross-batch memory of 65,536 rows behind the network of `torchbank demo`, with its monitor and without, take turns of
100 steps: each turn with the monitor holds one measurement of gradient fidelity. Writes results/monitor-overhead.json
and its table in docs/drift.md.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch

from torchbank import encoders, methods
from torchbank.data import Batch

from .documents import ROOT, write_table
from .measure import machine

NAME = "monitor-overhead"
ROWS, SIDE, CLASSES = 65_536, 32, 1_482
BATCHES = (16, 64)
# The monitor measures fidelity once in so many steps.
TURN = 100


class Trainer:
    """One method on random images, all of which it has seen before.

    Args:
        batch: Images a step.
        rows: Of the memory, and training images.
        monitored: Whether drift is measured.
    """

    def __init__(self, batch: int, rows: int, *, monitored: bool) -> None:
        torch.manual_seed(0)
        config = methods.XBMConfig(capacity=rows, start_step=0, memory_normalize="active", monitor_drift=monitored)
        self.method = methods.XBM(encoders.ConvNet(config.dim, channels=1), config, dataset_size=rows)
        self.optimizer = torch.optim.AdamW(self.method.parameters(), lr=1e-4)
        self.batch, self.rows, self.steps = batch, rows, 0
        self._fill()

    def _fill(self) -> None:
        for ids in torch.arange(self.rows).split(1_024):
            embeddings = torch.nn.functional.normalize(torch.randn(len(ids), self.method.config.dim), dim=1)
            self.method.bank.push(embeddings, label=ids % CLASSES, id=ids, step=0)
            if self.method.drift is not None:
                self.method.drift.observe(embeddings, ids, step=0, label=ids % CLASSES)

    def turn(self, steps: int) -> float:
        """Milliseconds a step."""
        begin = time.perf_counter()
        for _ in range(steps):
            ids = torch.randperm(self.rows)[: self.batch]
            images = torch.rand(self.batch, 1, SIDE, SIDE)
            self.steps += 1
            loss = self.method(Batch(images, ids % CLASSES, ids), step=self.steps).loss
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.method.after_step()
        return 1e3 * (time.perf_counter() - begin) / steps


def compare(batch: int, rows: int, *, turns: int, steps: int) -> dict[str, float]:
    """Medians over turns, and the median of the ratio of neighbours."""
    sides = {name: Trainer(batch, rows, monitored=name == "with") for name in ("with", "without")}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns + 1):
        for name, trainer in sides.items():
            taken = trainer.turn(steps)
            if turn:  # the first warms up
                times[name].append(taken)
    ratios = [one / other for one, other in zip(times["with"], times["without"], strict=True)]
    found = {f"{name}_ms": median(values) for name, values in times.items()}
    return {"batch": batch, "rows": rows, **found, "overhead": median(ratios) - 1}


def markdown(results: list[dict[str, float]]) -> str:
    """A row for each batch size."""
    lines = ["| batch | step without the monitor, ms | with it, ms | overhead |", "|---|---|---|---|"]
    for row in results:
        without, with_it = (f"{row[f'{name}_ms']:.1f}" for name in ("without", "with"))
        lines.append(f"| {row['batch']} | {without} | {with_it} | {row['overhead']:.1%} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=TURN, help="of a turn")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / f"{NAME}.json")
    chosen = parser.parse_args(arguments)
    results = [compare(batch, chosen.rows, turns=chosen.turns, steps=chosen.steps) for batch in BATCHES]
    chosen.out.write_text(json.dumps({"machine": machine("cpu"), "results": results}, indent=1) + "\n")
    print(markdown(results))
    if chosen.out == parser.get_default("out"):
        write_table(NAME, chosen.out, markdown(results), page=ROOT / "docs" / "drift.md")


if __name__ == "__main__":
    main()
