"""What cross-batch memory adds to the memory of a training step: `python -m benchmarks.memory_claim [--device cuda]`.

[Wang et al. 2020](arXiv:1912.06798) state 0.2 GB of GPU memory for a memory as large as Stanford Online Products. Here
is its size, 59,551 rows, with a batch of 64: the bytes of the bank, and the peak of one step of its loss (push, read
and gradient) beyond what is held before it, for each loss and in a process of its own. The written-out form
(similarities to all rows, masks, autograd) stands beside it. The encoder is no part of it: it is there without memory.
"""

import argparse
import ctypes
import json
import sys
from pathlib import Path

import torch
from torch import Tensor

import torchbank as tb

from .jobs import Job, Record, run_jobs
from .measure import machine, megabytes_beyond

HERE = Path(__file__).parent
ROWS, BATCH, CLASSES = 59_551, 64, 11_318
DIMS = (128, 512)
LOSSES = ("contrastive", "triplet", "multi-similarity", "contrastive, written out")
MARGIN = 0.5


def work(settings: Record) -> Record:
    """The bank's bytes, and the peak beyond them of a step: a job of `benchmarks.jobs`."""
    device, dim, loss = settings["device"], settings["dim"], settings["loss"]
    torch.manual_seed(0)
    # What is loaded once is no part of a step.
    small, queries, labels, ids = _stored(512, dim, device)
    _step(loss, queries, small, labels, ids)
    bank, queries, labels, ids = _stored(ROWS, dim, device)
    if sys.platform == "linux":
        # Memory that was freed and is kept would hide what a step takes.
        ctypes.CDLL(None).malloc_trim(0)
    peak = megabytes_beyond(lambda: _step(loss, queries, bank, labels, ids), device)
    return {"bank_megabytes": bank.nbytes / 1e6, "step_megabytes": peak, "machine": machine(device)}


def _stored(rows: int, dim: int, device: str) -> tuple[tb.MemoryBank, Tensor, Tensor, Tensor]:
    """A full bank, and a batch of its images: queries, labels and ids."""
    bank = tb.MemoryBank(rows, dim, fields={"label": torch.int64, "id": torch.int64}, metric="cosine", device=device)
    label = torch.arange(rows, device=device) % CLASSES
    # As spread as a trained encoder's: one direction a class, with noise around it.
    centres = torch.randn(CLASSES, dim, device=device)
    for part in torch.arange(rows, device=device).split(256):
        bank.push(centres[label[part]] + 0.5 * torch.randn(len(part), dim, device=device), label=label[part], id=part)
    ids = torch.arange(BATCH, device=device) * (rows // BATCH)
    queries = (centres[label[ids]] + 0.5 * torch.randn(BATCH, dim, device=device)).requires_grad_()
    return bank, queries, label[ids], ids


def _step(loss: str, queries: Tensor, bank: tb.MemoryBank, labels: Tensor, ids: Tensor) -> None:
    """What the memory adds to a step of training."""
    bank.push(queries, label=labels, id=ids)
    _loss(loss, queries, bank, labels, ids).backward()


def _loss(name: str, queries: Tensor, bank: tb.MemoryBank, labels: Tensor, ids: Tensor) -> Tensor:
    compared = {"labels": labels, "ids": ids}
    if name == "triplet":
        return tb.losses.triplet(queries, bank, margin=0.1, **compared)
    if name == "multi-similarity":
        return tb.losses.multi_similarity(queries, bank, **compared)
    if name == "contrastive":
        return tb.losses.contrastive(queries, bank, margin=MARGIN, **compared)
    stored = bank.view()
    scores = torch.nn.functional.normalize(queries, dim=1) @ stored.embeddings.T
    same = labels[:, None] == stored.fields["label"]
    another = ids[:, None] != stored.fields["id"]
    positives = ((1 - scores) * (same & another)).sum()
    return (positives + (scores * (~same & (scores > MARGIN))).sum()) / len(queries)


def main() -> None:
    """Run the jobs, write the JSON, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/memory-claim"), help="where the jobs keep their results"
    )
    parser.add_argument("--out", type=Path, help="the JSON; by default benchmarks/results/memory-claim-DEVICE.json")
    chosen = parser.parse_args()
    cases = [{"device": chosen.device, "dim": dim, "loss": loss} for dim in DIMS for loss in LOSSES]
    jobs = [Job(f"{chosen.device}-{case['dim']}-{case['loss'].replace(', ', '-')}", case) for case in cases]
    results = run_jobs("benchmarks.memory_claim", jobs, chosen.runs, processes=1)
    out = chosen.out or HERE / "results" / f"memory-claim-{chosen.device}.json"
    kept = ("dim", "loss", "bank_megabytes", "step_megabytes")
    rows = [{name: result[name] for name in kept} for result in results]
    content = {"machine": results[0]["machine"], "rows": ROWS, "batch": BATCH, "results": rows}
    out.write_text(json.dumps(content, indent=1) + "\n")
    for row in rows:
        bank, step = row["bank_megabytes"], row["step_megabytes"]
        print(f"dim {row['dim']}, {row['loss']}: bank {bank:.1f} MB + step {step:.1f} MB = {bank + step:.1f} MB")
    print(f"written: {out}")


if __name__ == "__main__":
    main()
