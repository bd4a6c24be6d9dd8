"""Jobs of minutes, each in a process of its own, so that its peak of memory is its own.

A job is a module's function `work(settings) -> result`, both of what JSON can hold. Its result is kept in a file with
its settings, and where there is one of the same settings it is not run again: a run that was stopped goes on.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
Record = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One call of `work`.

    `name` is that of its file, `settings` what it is given.
    """

    name: str
    settings: Record


class FailedJobsError(RuntimeError):
    """Some jobs ended with an error; the others have their results."""


def run_jobs(module: str, jobs: Iterable[Job], folder: Path, *, processes: int) -> list[Record]:
    """Run the jobs of a module, so many at a time, each with its part of the cores.

    Returns:
        For each job its settings and result in one dictionary.

    Raises:
        FailedJobsError: Some failed; running again runs only these.
    """
    jobs, words = list(jobs), {}
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [job for job in jobs if read_result(folder, job) is None]
    print(f"{len(jobs)} jobs, {len(jobs) - len(waiting)} of them done before", flush=True)

    def run(job: Job) -> None:
        words[job.name] = _run_alone(module, job, folder, threads=max(1, (os.cpu_count() or 1) // processes))
        print(f"{job.name}: {words[job.name] or read_result(folder, job)}", flush=True)

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(run, waiting))
    failed = [f"{name}: {word}" for name, word in words.items() if word]
    if failed:
        msg = f"{len(failed)} of {len(jobs)} jobs failed; run again to run these:\n" + "\n".join(failed)
        raise FailedJobsError(msg)
    return [{**job.settings, **(read_result(folder, job) or {})} for job in jobs]


def read_result(folder: Path, job: Job) -> Record | None:
    """The result of a job, if it has been run with these settings."""
    try:
        content = json.loads(_file(folder, job).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return content["result"] if content["settings"] == job.settings else None


def _file(folder: Path, job: Job) -> Path:
    return folder / f"{job.name}.json"


def _run_alone(module: str, job: Job, folder: Path, *, threads: int) -> str:
    """Run a job; its last words if it fails, else nothing."""
    command = [sys.executable, "-m", "benchmarks.jobs", module, job.name, json.dumps(job.settings), str(folder)]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=env)
    (folder / f"{job.name}.log").write_text(done.stdout + done.stderr)
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[-1][:300]


def main(module: str, name: str, settings: str, folder: str) -> None:
    """In a process of its own: work, and write the result in one move."""
    job = Job(name, json.loads(settings))
    result = importlib.import_module(module).work(dict(job.settings))
    path = _file(Path(folder).absolute(), job)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"settings": job.settings, "result": result}, indent=1) + "\n")
    temporary.replace(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
