"""The cases and their contestants: torchbank beside what people use instead.

Every case is a plain dict, so that it can travel to another process and into the results.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

import torchbank as tb

from .measure import Step

TEMPERATURE = 0.07


def unit(rows: int, dim: int, seed: int) -> Tensor:
    """Random rows of norm 1, made in place so that making them leaves no peak of memory behind."""
    values = torch.empty(rows, dim)
    for block in values.split(4096):
        block.normal_(generator=torch.Generator().manual_seed(seed))
        block /= block.norm(dim=1, keepdim=True)
        seed += 1
    return values


def filled(rows: Tensor) -> tb.MemoryBank:
    """A full bank of these rows."""
    bank = tb.MemoryBank(len(rows), rows.shape[1], metric="dot")
    for block in rows.split(4096):
        bank.push(block)
    return bank


def info_nce(case: dict) -> dict[str, Callable[[], Step]]:
    """Forward and backward of InfoNCE against a bank."""
    queries, keys = unit(case["batch"], case["dim"], 1), unit(case["batch"], case["dim"], 2)
    rows = unit(case["rows"], case["dim"], 3)

    def ours() -> Step:
        bank = filled(rows)

        def step() -> None:
            tb.losses.info_nce(queries.clone().requires_grad_(), keys, bank, temperature=TEMPERATURE).backward()

        return step

    def moco_recipe() -> Step:
        labels = torch.zeros(len(queries), dtype=torch.int64)

        def step() -> None:
            learned = queries.clone().requires_grad_()
            positive = (learned * keys).sum(dim=1, keepdim=True)
            negative = learned @ rows.clone().detach().T
            logits = torch.cat([positive, negative], dim=1) / TEMPERATURE
            nn.functional.cross_entropy(logits, labels).backward()

        return step

    return {"torchbank": ours, "MoCo recipe (clone, matmul, cat, cross-entropy)": moco_recipe}


def nearest(case: dict) -> dict[str, Callable[[], Step]]:
    """The k nearest rows by inner product."""
    queries, rows, k = unit(case["batch"], case["dim"], 1), unit(case["rows"], case["dim"], 3), case["k"]

    def ours() -> Step:
        bank = filled(rows)
        return lambda: bank.nearest(queries, k)

    def matmul_topk() -> Step:
        return lambda: torch.topk(queries @ rows.T, k, dim=1)

    def bare_matmul() -> Step:
        out = torch.empty(len(queries), 2048)

        def step() -> None:
            for block in rows.split(2048):
                torch.mm(queries, block.T, out=out[:, : len(block)].view(len(queries), -1))

        return step

    def faiss_flat() -> Step:
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatIP(rows.shape[1])
        index.add(rows.numpy())
        return lambda: index.search(queries.numpy(), k)

    return {
        "torchbank": ours,
        "torch.topk(q @ bank.T)": matmul_topk,
        "blocked matmul alone": bare_matmul,
        "faiss-cpu IndexFlatIP": faiss_flat,
    }


def push(case: dict) -> dict[str, Callable[[], Step]]:
    """Write one batch into a bank."""
    batch = unit(case["batch"], case["dim"], 1)

    def ours(metric: str) -> Callable[[], Step]:
        def make() -> Step:
            bank = tb.MemoryBank(case["rows"], case["dim"], metric=metric)
            return lambda: bank.push(batch)

        return make

    def slice_copy() -> Step:
        rows, place = torch.zeros(case["rows"], case["dim"]), [0]

        def step() -> None:
            start = place[0]
            rows[start : start + len(batch)].copy_(batch)
            place[0] = (start + len(batch)) % (case["rows"] - len(batch))

        return step

    return {
        'torchbank (metric="dot")': ours("dot"),
        'torchbank (metric="cosine")': ours("cosine"),
        "slice copy": slice_copy,
    }


CASES: dict[str, Callable[[dict], dict[str, Callable[[], Step]]]] = {
    "info_nce": info_nce,
    "nearest": nearest,
    "push": push,
}

RUNS: list[dict] = [
    {"case": "push", "batch": 256, "rows": 65_536, "dim": 128},
    *({"case": "info_nce", "batch": batch, "rows": 65_536, "dim": 128} for batch in (32, 256, 1024)),
    *({"case": "info_nce", "batch": 256, "rows": 65_536, "dim": dim} for dim in (64, 256, 768)),
    *({"case": "nearest", "batch": 256, "rows": 1_000_000, "dim": 128, "k": k} for k in (1, 10, 100)),
    *({"case": "nearest", "batch": batch, "rows": 1_000_000, "dim": 128, "k": 10} for batch in (1, 32)),
    *({"case": "nearest", "batch": 256, "rows": rows, "dim": 128, "k": 10} for rows in (4096, 65_536)),
]
"""What is timed."""

MEMORY_RUNS: list[dict] = [
    *({"case": "info_nce", "batch": 256, "rows": rows, "dim": 128} for rows in (250_000, 1_000_000)),
    *({"case": "nearest", "batch": 256, "rows": rows, "dim": 128, "k": 10} for rows in (250_000, 1_000_000)),
    {"case": "nearest", "batch": 256, "rows": 1_000_000, "dim": 128, "k": 100},
]
"""Where the peak of extra memory is read."""
