"""Shared banks over 1, 2 and 4 processes: the same as one process, and the bytes between them.

python -m benchmarks.scaling            # measures, writes results/scaling.json and the tables of docs/many-ranks.md
python -m benchmarks.scaling --no-docs  # measures and prints

Processes talk by gloo on one machine, which says what is sent and whether it is right, and nothing about time. The
tables for 8 and 64 GPUs are a model, of the numbers in `MACHINES`.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, multiprocessing

import torchbank as tb

from .documents import ROOT, filled, write_results
from .traffic import traffic_of

PAGE = ROOT / "docs" / "many-ranks.md"
RESULT = Path(__file__).parent / "results" / "scaling.json"
RANKS = (1, 2, 4)
CAPACITY, BATCH, DIM, NEIGHBORS, STEPS = 4_096, 64, 128, 10, 40
# Beside an embedding: a label and an id, and stamp and generation, which are not sent.
FIELDS, STAMPS = 16, 16
WAYS = {"replicated": tb.replicate, "sharded": tb.shard}


def bytes_of(call: str, way: str, ranks: int, *, batch: int = BATCH, dim: int = DIM, k: int = NEIGHBORS) -> int:
    """What a rank receives in a call, by the table of docs/many-ranks.md, float32 throughout."""
    others = ranks - 1
    if way == "replicated":
        a_row = {"push": 4 * dim + FIELDS, "update": 4 * dim + 16}
        return others * batch * a_row.get(call, 0)
    a_row = {
        "push": 4 * dim + FIELDS + 8,
        "update": 4 * dim + 16,
        "attend": 4 * dim + 4 * (dim + 1),
        "nearest": 4 * dim + 12 * k,
        "pair_sum": 4 * dim + 4 * (dim + 2),
        "gather": 8 + 4 * dim + FIELDS + 8 + 1,
    }
    return others * batch * a_row[call]


def messages_of(call: str, way: str) -> int:
    """The collectives of a call, but for `messages_of_sizes`; alone there are none."""
    if way == "replicated":
        return int(call in ("push", "update"))
    return 2  # there and back


def messages_of_sizes(call: str, way: str) -> int:
    """The exchange of batch sizes, 8 bytes a rank, before a call: on the CPU, under ``uneven=True``, for an update."""
    return min(1, messages_of(call, way))


def ring() -> tb.MemoryBank:
    return tb.MemoryBank(CAPACITY, DIM, fields={"label": torch.int64, "id": torch.int64})


def calls_of(bank: tb.MemoryBank, queries: Tensor) -> dict[str, Callable[[], Any]]:
    """Everything that is measured, as it is called in a step."""
    slots = torch.arange(len(queries))
    return {
        "attend": partial(bank.attend, queries, scale=10.0),
        "nearest": partial(bank.nearest, queries, NEIGHBORS),
        "pair_sum": partial(bank.pair_sum, queries, tb.reads.SCORE),
        "gather": partial(bank.gather, slots),
        # Of a generation that was never: sent, and not written.
        "update": partial(bank.update, slots, torch.zeros_like(slots), queries.detach()),
    }


def run_rank(rank: int, ranks: int, meeting: str, result: str) -> None:
    """One process: push and read, beside the bank of one process."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    rows = []
    for way, share in WAYS.items():
        shared, alone = share(ring()), ring()
        generator = torch.Generator().manual_seed(0)
        for _ in range(STEPS):
            embeddings = torch.randn(ranks * BATCH, DIM, generator=generator)
            labels, ids = torch.randint(50, (2, ranks * BATCH), generator=generator)
            parts = (part.split(BATCH)[rank] for part in (embeddings, labels, ids))
            pushed = traffic_of(lambda parts=parts, shared=shared: _push(shared, *parts))
            _push(alone, embeddings, labels, ids)
        counts = {"push": pushed}
        queries = torch.randn(BATCH, DIM, generator=torch.Generator().manual_seed(rank)).requires_grad_()
        found, expected = calls_of(shared, queries), calls_of(alone, queries)
        # An update says of all ranks together how many rows were stale.
        difference = max(_difference(found[call](), expected[call]()) for call in found if call != "update")
        counts |= {call: traffic_of(action) for call, action in found.items()}
        equal = torch.equal(shared.ordered().embeddings, alone.ordered().embeddings)
        rows += [
            {
                **{"ranks": ranks, "bank": way, "call": call, "rows equal": equal, "difference": difference},
                **{"bytes": counted.received, "messages": counted.messages},
            }
            for call, counted in counts.items()
        ]
    if rank == 0:
        Path(result).write_text(json.dumps(rows))
    distributed.barrier()
    distributed.destroy_process_group()


def _push(bank: tb.MemoryBank, embeddings: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
    return bank.push(embeddings, label=labels, id=ids)


def _difference(found: Any, expected: Any) -> float:
    """The largest of any floating number, relative to the largest there is."""
    numbers = [pair for pair in zip(found, expected, strict=True) if isinstance(pair[0], Tensor)]
    pairs = [(one, other) for one, other in numbers if one.is_floating_point()]
    return max(((one - other).abs().max() / other.abs().max()).item() for one, other in pairs)


def measure() -> list[dict[str, Any]]:
    rows = []
    for ranks in RANKS:
        with tempfile.TemporaryDirectory() as folder:
            result = f"{folder}/result.json"
            multiprocessing.spawn(run_rank, (ranks, f"{folder}/meeting", result), nprocs=ranks)
            rows += json.loads(Path(result).read_text())
    for row in rows:
        call, way, ranks = row["call"], row["bank"], row["ranks"]
        sizes = messages_of_sizes(call, way)
        row["formula"] = bytes_of(call, way, ranks) + 8 * (ranks - 1) * sizes
        row["messages by the formula"] = (messages_of(call, way) + sizes) * (ranks > 1)
    return rows


def measured_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| ranks | bank | call | bytes received, counted | by the formula | messages, counted | by the formula |",
        "|--:|---|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['ranks']} | {row['bank']} | `{row['call']}` | {row['bytes']:,} | {row['formula']:,} | "
        f"{row['messages']} | {row['messages by the formula']} |"
        for row in rows
        if row["ranks"] > 1 and row["formula"]
    ]
    worst = max(row["difference"] for row in rows)
    same = "the same rows to the bit" if all(row["rows equal"] for row in rows) else "OTHER ROWS"
    text = (
        f"Batch {BATCH} a rank, dim {DIM}, k {NEIGHBORS}, two int64 fields. After {STEPS} pushes each bank, replicated "
        f"or sharded over {', '.join(map(str, RANKS))} processes, held {same} as one process; the reads differed by at "
        f"most {worst:.0e} of the largest number. Calls that are not listed sent nothing."
    )
    return "\n".join(lines) + f"\n\n{text}"


class Machine(NamedTuple):
    """What a model of a step is made of. Assumed, not measured: about half of what data sheets promise for an H100.

    Attributes:
        ranks: GPUs.
        link: Bytes per second that a GPU receives from all others together.
        message: Seconds that a collective takes for the smallest message.
        memory: Bytes per second from a GPU's own memory.
        products: Multiplications and additions per second in bfloat16.
    """

    ranks: int
    link: float
    message: float
    memory: float = 2e12
    products: float = 4e14


MACHINES = {
    "8 GPUs, NVLink": Machine(8, link=2e11, message=3e-5),
    "64 GPUs, 8 hosts, 400 Gb/s a GPU": Machine(64, link=2.5e10, message=1e-4),
}
MODEL_BATCH, MODEL_DIM, GPU_BYTES = 256, 256, 60e9
ROWS = (65_536, 2_000_000, 20_000_000, 200_000_000, 1_000_000_000)
A_ROW = 2 * MODEL_DIM + FIELDS + STAMPS


def memory_of(way: str, rows: int, ranks: int) -> float:
    """Bytes of a bank on each rank."""
    return rows * A_ROW / (ranks if way == "sharded" else 1)


def seconds_of(machine: Machine, way: str, rows: int) -> float:
    """One push and one `attend` with its gradient, bfloat16 rows, ``precision="fast"``."""
    ranks = machine.ranks if way == "sharded" else 1
    # Each rank reads its rows for the queries of all: as many products as all rows for its own queries.
    products = 4 * MODEL_BATCH * rows * MODEL_DIM / machine.products
    reading = rows * 2 * MODEL_DIM / ranks / machine.memory
    calls = ("push", "attend")
    sent = sum(bytes_of(call, way, machine.ranks, batch=MODEL_BATCH, dim=MODEL_DIM) for call in calls)
    messages = sum(messages_of(call, way) for call in calls)
    return max(products, reading) + sent / machine.link + messages * machine.message


# The embeddings that shops use: of a small image encoder, of a larger one, of text and images together.
PRODUCTS, PRODUCT_DIMS = 2_000_000, (128, 256, 768)


def products_table() -> str:
    """Gigabytes on each GPU by mode."""
    lines = ["| an embedding of | replicated | sharded over 2 | over 8 | over 64 |", "|---|--:|--:|--:|--:|"]
    for dim in PRODUCT_DIMS:
        for word, size in (("bfloat16", 2), ("float32", 4)):
            whole = PRODUCTS * (size * dim + FIELDS + STAMPS)
            cells = " | ".join(f"{whole / ranks / 1e9:,.2f} GB" for ranks in (1, 2, 8, 64))
            lines.append(f"| {dim} numbers, {word} | {cells} |")
    return "\n".join(lines)


def model_table() -> str:
    headings = [f"{way}, {name}" for name in MACHINES for way in WAYS]
    lines = [f"| rows | {' | '.join(headings)} |", f"|--:|{'--:|' * len(headings)}"]
    for rows in ROWS:
        cells = []
        for machine in MACHINES.values():
            for way in WAYS:
                held = memory_of(way, rows, machine.ranks)
                time = f"{seconds_of(machine, way, rows) * 1e3:,.2f} ms" if held < GPU_BYTES else "does not fit"
                cells.append(f"{held / 1e9:,.2f} GB, {time}")
        lines.append(f"| {rows:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-docs", action="store_true", help="print instead of writing")
    chosen = parser.parse_args()
    rows = measure()
    tables = {"products": products_table(), "traffic": measured_table(rows), "model": model_table()}
    if chosen.no_docs:
        print("\n\n".join(tables.values()))
        return
    write_results(RESULT, rows)
    for name, table in tables.items():
        source = RESULT.name if name == "traffic" else "benchmarks/scaling.py"
        PAGE.write_text(filled(PAGE.read_text(), name, source=source, content=table))


if __name__ == "__main__":
    main()
