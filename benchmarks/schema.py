"""The one schema of a results file: what was measured, on what, and what was skipped."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

SCHEMA = 2
"""Raised whenever a field changes its meaning, so that no table mixes two."""


@dataclass(frozen=True)
class Case:
    """One question: this read, at these sizes."""

    name: str
    batch: int
    rows: int
    dim: int
    k: int | None = None
    dtype: str = "float32"  # of the rows; queries are float32 unless a contestant says otherwise
    excluded: bool = False  # each query leaves out the rows of its own id
    memory_only: bool = False  # read the peak, time nothing

    def title(self) -> str:
        """The case in words."""
        words = [f"`{self.name}` batch {self.batch:,} rows {self.rows:,} dim {self.dim}"]
        words += [f"k {self.k}"] if self.k is not None else []
        words += ["bf16 rows"] if self.dtype == "bfloat16" else []
        words += ["ids excluded"] if self.excluded else []
        return " ".join(words)


@dataclass(frozen=True)
class Line:
    """What one contestant did in one case. Times in ms, rates in 10^9 per second, memory in 10^6 bytes."""

    case: Case
    who: str
    median_ms: float | None = None  # None where only memory was read
    q1_ms: float | None = None
    q3_ms: float | None = None
    rounds: int = 0
    gflops: float | None = None  # FLOPs of the case (see `costs`) over the median
    gbytes: float | None = None  # minimal traffic of the case over the median
    of_matmul: float | None = None  # gflops over the ceiling in the dtype of the rows
    of_copy: float | None = None  # gbytes over the ceiling
    extra_mb: float | None = None  # peak beyond bank and inputs; None where it was not read


@dataclass(frozen=True)
class Skip:
    """Who did not take part, and why."""

    case: Case
    who: str
    why: str


@dataclass
class Results:
    """One file of `benchmarks/results/`."""

    machine: dict
    packages: dict
    ceilings: dict  # "float32_gflops", "bfloat16_gflops", "copy_gbytes": measured in the same run
    lines: list[Line] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    schema: int = SCHEMA

    def write(self, path: Path) -> None:
        """Write the file; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def read(path: Path) -> Results:
    """The results in a file.

    Raises:
        ValueError: The file is of another schema.
    """
    content = json.loads(path.read_text())
    if content.get("schema") != SCHEMA:
        msg = f"{path} has schema {content.get('schema')}; expected {SCHEMA}, so run the benchmark again"
        raise ValueError(msg)
    lines = [Line(**{**line, "case": Case(**line["case"])}) for line in content["lines"]]
    skipped = [Skip(**{**skip, "case": Case(**skip["case"])}) for skip in content["skipped"]]
    return Results(**{**content, "lines": lines, "skipped": skipped})


def file_name(results: Results) -> str:
    """The device in the words of a file name."""
    machine = results.machine
    words = machine["device"] if machine["kind"] == "cuda" else f"{machine['device']} {machine['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") + ".json"
