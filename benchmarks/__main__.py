"""Run the cases, print one table, write one JSON file.

python -m benchmarks                    # everything, about 10 minutes on 2 cores
python -m benchmarks --only push        # one case
"""

import argparse
import json
import re
from importlib.util import find_spec
from pathlib import Path

from .cases import CASES, MEMORY_RUNS, RUNS
from .measure import ceilings, device_name, extra_megabytes, machine, megabytes_beyond, row, take_turns

RESULTS = Path(__file__).parent / "results"
PACKAGES = {"faiss-cpu IndexFlatIP": "faiss"}


def installed(contestants: dict) -> dict:
    """The contestants whose package is here; the others are named and skipped."""
    here = {}
    for name, make in contestants.items():
        if find_spec(PACKAGES.get(name, "torch")) is None:
            print(f"  {name}: not installed, skipped")
        else:
            here[name] = make
    return here


def time_case(case: dict, rounds: int) -> list[dict]:
    """Time every contestant of a case and print one line each."""
    rounds = 25 * rounds if case["case"] == "push" else rounds
    steps = {name: make() for name, make in installed(CASES[case["case"]](case)).items()}
    rows = [row(case, name, times) for name, times in take_turns(steps, rounds).items()]
    ours = rows[0]["median_ms"]
    print(" ".join(f"{key}={value}" for key, value in case.items()))
    for line in rows:
        print(f"  {line['median_ms']:10.3f} ms  {line['median_ms'] / ours:6.2f} x  {line['who']}")
    return rows


def read_memory(case: dict) -> list[dict]:
    """Peak extra memory of every contestant of a case."""
    print("memory " + " ".join(f"{key}={value}" for key, value in case.items()))
    rows = []
    for name in installed(CASES[case["case"]](case | {"rows": 64})):
        if name == "faiss-cpu IndexFlatIP":
            continue  # it copies the bank into its index
        megabytes = extra_megabytes("benchmarks", case, name)
        print(f"  {megabytes:10.1f} MB  {name}")
        rows.append({**case, "who": name, "extra_megabytes": megabytes})
    return rows


def memory_of_one(case: dict, who: str) -> None:
    """In a process of its own: warm up on a small bank, then read the peak over the large one."""
    CASES[case["case"]](case | {"rows": 8192})[who]()()
    print(megabytes_beyond(CASES[case["case"]](case)[who]()))


def main() -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CASES, help="run one case only, and write nothing")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds of each case")
    parser.add_argument("--memory", nargs=2, metavar=("CASE", "WHO"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.memory:
        memory_of_one(json.loads(chosen.memory[0]), chosen.memory[1])
        return
    results = {"machine": machine(), "ceilings": ceilings(), "times": [], "memory": []}
    print(json.dumps({"machine": results["machine"], "ceilings": results["ceilings"]}, indent=1))
    for case in RUNS:
        if chosen.only in (None, case["case"]):
            results["times"] += time_case(case, chosen.rounds)
    for case in MEMORY_RUNS:
        if chosen.only in (None, case["case"]):
            results["memory"] += read_memory(case)
    if chosen.only is None:
        name = re.sub(r"[^a-z0-9]+", "-", f"{device_name()} {results['machine']['cores']} cores".lower()).strip("-")
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
        print(f"written: {RESULTS / f'{name}.json'}")


if __name__ == "__main__":
    main()
