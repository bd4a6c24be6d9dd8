"""Run a list of cases: who takes part, the check that they agree, the turns, the lines."""

import gc
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from .contestants import contestants
from .costs import flops, traffic
from .data import Contestant, Inputs, inputs
from .measure import available_bytes, ceilings, machine, megabytes_beyond, quartiles, take_turns
from .peers import PACKAGES, peers
from .schema import Case, Line, Results, Skip

MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}
PROBE_SECONDS = 120


def packages() -> dict[str, str | None]:
    """The versions of the peers; None is absent."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def field_of(case: Case, device: str) -> list[Contestant]:
    """Everyone who answers a case, installed or not."""
    mine = contestants(case.name, device)
    # Peers know neither exclusion by id nor a loss that torchbank has not.
    return mine if case.excluded or not mine else [*mine, *peers(case.name)]


def why_not(contestant: Contestant, case: Case, device: str) -> str | None:
    """A word on why a contestant cannot take part, or None."""
    if contestant.needs == "torch.compile":
        if device == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
            return "no C++ compiler"
        if case.excluded or case.memory_only:
            return "timed only in the plain form"
    elif find_spec(contestant.needs) is None:
        return f"{contestant.needs} is not installed"
    if case.dtype not in contestant.dtypes:
        return f"no {case.dtype} rows"
    needed = int(contestant.floats * case.batch * case.rows * (2 if case.dtype == "bfloat16" else 4))
    free = available_bytes(device)
    if needed > 0.6 * free:
        return f"needs about {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free"
    return None


def alone(case: Case, who: str, device: str, *, guarded: bool = False) -> tuple[float | None, str]:
    """Peak megabytes of one call in a fresh process, or None and its last words.

    Guarded, it may take 70 % of the free memory and `PROBE_SECONDS`.
    """
    limit = str(int(0.7 * available_bytes(device))) if guarded and device == "cpu" else "0"
    command = [sys.executable, "-m", "benchmarks", "--alone", json.dumps(asdict(case)), who, device, limit]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1], timeout=PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return None, f"not done after {PROBE_SECONDS} s"
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"]
        return None, words[-1][:200]
    return float(done.stdout.split()[-1]), ""


def memory_of_one(case: Case, who: str, device: str, limit: int) -> None:
    """In a process of its own: warm up on a small bank, then print the peak over the large one."""
    if limit:
        import resource

        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + limit, held + limit))
    (contestant,) = (c for c in field_of(case, device) if c.who == who)
    small = replace(case, rows=min(case.rows, 1_024 if contestant.risky else 8_192))
    contestant.make(inputs(small, device))()
    step = contestant.make(inputs(case, device))
    print(megabytes_beyond(step, device))


class Runner:
    """One run on one device, written after each case so that a kill loses one case at most."""

    def __init__(self, device: str, *, rounds: int, case_seconds: float, budget: float, path: Path | None) -> None:
        self.device, self.rounds, self.case_seconds = device, rounds, case_seconds
        self.budget, self.path = budget, path
        self.begin = time.perf_counter()
        self.matmul_size = MATMUL_SIZE[device]
        self.results = Results(machine(device), packages(), {})

    def run(self, cases: Iterable[Case]) -> Results:
        """Run the cases in order until the budget is spent."""
        self.results.ceilings = ceilings(self.device, self.matmul_size)
        print(json.dumps({**self.results.machine, **self.results.ceilings}, indent=1), flush=True)
        for case in cases:
            spent = time.perf_counter() - self.begin
            if spent >= self.budget:
                self._skip(case, "all", f"the budget of {self.budget:.0f} s is spent")
            else:
                print(f"{case.title()}{' (memory)' if case.memory_only else ''}  [{spent:.0f} s]", flush=True)
                self._memory(case) if case.memory_only and self.device == "cpu" else self._time(case)
            if self.path:
                self.results.write(self.path)
        return self.results

    def _skip(self, case: Case, who: str, why: str) -> None:
        self.results.skipped.append(Skip(case, who, why))
        print(f"  {who}: skipped, {why}" if who != "all" else f"{case.title()}: skipped, {why}", flush=True)

    def _here(self, case: Case) -> list[Contestant]:
        """Those who can take part; the others are named and skipped."""
        everyone, here = field_of(case, self.device), []
        if not everyone:
            self._skip(case, "all", f"torchbank.losses has no {case.name}")
        for contestant in everyone:
            why = why_not(contestant, case, self.device)
            if why is None and contestant.risky:
                why = alone(case, contestant.who, self.device, guarded=True)[1]
                why = f"tried alone, it fails: {why}" if why else None
            if why is None:
                here.append(contestant)
            else:
                self._skip(case, contestant.who, why)
        return here

    def _memory(self, case: Case) -> None:
        """Peak extra memory of each contestant, in a fresh process each."""
        for contestant in self._here(case):
            if contestant.needs == "faiss":
                continue  # it holds a copy of the bank, so what it adds compares with nothing
            megabytes, why = alone(case, contestant.who, self.device)
            if megabytes is None:
                self._skip(case, contestant.who, why)
            else:
                print(f"  {megabytes:12.1f} MB  {contestant.who}", flush=True)
                self.results.lines.append(Line(case, contestant.who, extra_mb=megabytes))

    def _time(self, case: Case) -> None:
        here = self._here(case)
        if not here:
            return
        data = inputs(case, self.device)
        steps, first, peaks, times = {}, {}, {}, {}
        for contestant in here:
            try:
                steps[contestant.who] = step = contestant.make(data)
                begin = time.perf_counter()
                first[contestant.who] = step()  # warms up, and is what is compared
                slow = time.perf_counter() - begin
                if slow > self.case_seconds and contestant.needs != "torch.compile":
                    # So slow that a warm-up does not count: the one call is the result.
                    times[contestant.who] = [slow]
                    del steps[contestant.who]
                if self.device == "cuda":
                    peaks[contestant.who] = megabytes_beyond(step, self.device)
            except (RuntimeError, MemoryError) as error:
                # One that fails here is a result too; its words are kept.
                steps.pop(contestant.who, None)
                self._skip(case, contestant.who, f"fails: {str(error).strip().splitlines()[0][:200]}")
        compared = ("contrastive", "triplet", "distribution_match", "massl")
        if case.name in compared and case.dtype == "float32":
            check_agreement(first)
        first.clear()
        rounds = 25 * self.rounds if case.name == "push" else self.rounds
        limit = min(self.case_seconds, max(0.0, self.budget - (time.perf_counter() - self.begin)))
        times |= take_turns(steps, rounds, self.device, limit)
        for contestant in here:
            if contestant.who in times:
                line = self._line(case, contestant.who, times[contestant.who], peaks.get(contestant.who))
                self.results.lines.append(line)
        steps.clear()
        self._free(data)

    def _free(self, data: Inputs) -> None:
        del data
        torch.compiler.reset()
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def _line(self, case: Case, who: str, times: list[float], peak: float | None) -> Line:
        q1, median, q3 = quartiles(times)
        limits = self.results.ceilings
        gflops, gbytes = flops(case) / median / 1e9, traffic(case) / median / 1e9
        line = Line(
            case=case,
            who=who,
            median_ms=median * 1e3,
            q1_ms=q1 * 1e3,
            q3_ms=q3 * 1e3,
            rounds=len(times),
            gflops=gflops,
            gbytes=gbytes,
            of_matmul=gflops / limits[f"{case.dtype}_gflops"],
            of_copy=gbytes / limits["copy_gbytes"],
            extra_mb=peak,
        )
        print(f"  {line.median_ms:12.3f} ms  {line.of_matmul:5.0%} matmul {line.of_copy:5.0%} copy  {who}", flush=True)
        return line


def check_agreement(first: dict[str, object]) -> None:
    """Raise unless all contestants returned one loss and one gradient.

    Raises:
        RuntimeError: They differ, so that their times say nothing about each other.
    """
    (who, (value, gradient)), *others = first.items()
    for other, (their_value, their_gradient) in others:
        far = (gradient - their_gradient).abs().max() > 1e-4 * gradient.abs().max()
        if far or not torch.isclose(value, their_value, rtol=1e-4, atol=1e-6):
            msg = f"{other} computes {their_value.item()} where {who} computes {value.item()}, or another gradient"
            raise RuntimeError(msg)
