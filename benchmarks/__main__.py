"""Run the cases and write one file.

python -m benchmarks                                  # the CPU list, under 15 minutes on 2 cores
python -m benchmarks --device cuda --budget 300       # the GPU list, until 300 seconds are spent
python -m benchmarks --list tiny --out /tmp/tiny.json # seconds; proves that all of it works
"""

import argparse
import json
from pathlib import Path

from .lists import LISTS
from .runner import Runner, memory_of_one
from .schema import Case, file_name

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--list", choices=LISTS, help="the cases; by default those of the device")
    parser.add_argument("--only", help="one case by name; written only with --out")
    parser.add_argument("--rounds", type=int, default=9, help="at most so many timed rounds of a case")
    parser.add_argument("--case-seconds", type=float, default=12.0, help="no new round of a case after this")
    parser.add_argument("--budget", type=float, default=780.0, help="no new case after so many seconds")
    parser.add_argument("--out", type=Path, help="the file; by default benchmarks/results/DEVICE.json")
    parser.add_argument("--alone", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.alone:
        case, who, device, limit = chosen.alone
        memory_of_one(Case(**json.loads(case)), who, device, int(limit))
        return
    runner = Runner(
        chosen.device, rounds=chosen.rounds, case_seconds=chosen.case_seconds, budget=chosen.budget, path=chosen.out
    )
    if chosen.out is None and chosen.only is None:
        runner.path = RESULTS / file_name(runner.results)
    if chosen.list == "tiny":
        runner.matmul_size = 256
    runner.run(case for case in LISTS[chosen.list or chosen.device] if chosen.only in (None, case.name))
    if runner.path:
        print(f"written: {runner.path}")


if __name__ == "__main__":
    main()
