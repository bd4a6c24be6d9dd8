"""A process of its own that fills a bank in a file, reads it, and prints its peak memory: ``large_file.py PATH ROWS``.

Each batch is the same 250,000 rows with their axes turned by one place more, so that the log-sum-exp over all rows
follows in float64 from sixteen of them. Ten rows that answer the first query best are planted at known slots.
"""

import json
import sys
import time
from pathlib import Path

import torch

import torchbank as tb

DIM, BATCH, SCALE, PLANTED = 16, 250_000, 0.5, 10


def batch_of(base, number):
    return base.roll(number % DIM, dims=1)


def planted_slots(rows):
    """Spread over the whole file, its first and last row among them."""
    return [place * (rows - 1) // (PLANTED - 1) for place in range(PLANTED)]


def planted_row(place, query):
    # Eighths are exact in bfloat16; no other row comes near.
    return (query / query.norm() * (16 + place)).mul(8).round().div(8).bfloat16()


def fill(bank, base, query):
    planted = dict(zip(planted_slots(bank.capacity), range(PLANTED), strict=True))
    for number in range(0, bank.capacity, len(base)):
        rows = batch_of(base, number // len(base)).clone()
        for slot, place in planted.items():
            if number <= slot < number + len(base):
                rows[slot - number] = planted_row(place, query)
        bank.push(rows)


def expected_lse(rows, base, queries):
    """In float64: every batch's sum, corrected for the rows that were planted."""
    sums = []
    for turn in range(min(DIM, rows // len(base))):
        part = batch_of(base, turn)
        sums.append(sum((SCALE * queries.double() @ run.double().T).exp().sum(1) for run in part.split(100_000)))
    total = sum(sums[number % DIM] for number in range(rows // len(base)))
    for place, slot in enumerate(planted_slots(rows)):
        gone = batch_of(base, slot // len(base))[slot % len(base)]
        new = planted_row(place, queries[0])
        total += (SCALE * queries.double() @ new.double()).exp() - (SCALE * queries.double() @ gone.double()).exp()
    return total.log()


def peak_bytes():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def main(path, rows):
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(min(BATCH, rows), DIM, generator=generator).bfloat16()
    queries = torch.randn(2, DIM, generator=generator)
    clock = [time.perf_counter()]
    peaks = {"start": peak_bytes()}

    def note(word):
        clock.append(time.perf_counter())
        peaks[word] = peak_bytes()
        seconds[word] = round(clock[-1] - clock[-2], 1)

    seconds = {}
    bank = tb.MemoryBank(rows, DIM, metric="dot", dtype=torch.bfloat16, storage=path)
    note("create")
    fill(bank, base, queries[0])
    note("push")
    neighbors = bank.nearest(queries, k=PLANTED)
    note("nearest")
    lse = bank.attend(queries, scale=SCALE).lse
    note("attend")
    found = {
        "rows": len(bank),
        "slots": neighbors.slots[0].tolist(),
        "planted": planted_slots(rows)[::-1],
        "lse": lse.tolist(),
        "expected_lse": expected_lse(rows, base, queries).tolist(),
        "file_bytes": Path(path).stat().st_size,
        "peak_bytes": peaks,
        "seconds": seconds,
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
