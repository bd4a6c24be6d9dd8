"""The table of a results file: `python -m benchmarks.table FILE`; with `--docs`, all of it into docs/benchmarks.md and
the most telling cases into the README; with `--name`, the device as a file name."""

import sys
from pathlib import Path

from .documents import ROOT, filled
from .schema import Line, Results, file_name, read

# The README shows so many cases, the first of the list.
TELLING = 10


def _cases(lines: list[Line]) -> list[list[Line]]:
    cases: dict[str, list[Line]] = {}
    for line in lines:
        cases.setdefault(line.case.title(), []).append(line)
    return list(cases.values())


def _short(number: float) -> str:
    """Two digits or more, never in powers of ten."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _megabytes(number: float) -> str:
    return "under 1 MB" if number < 1 else f"{number:,.0f} MB"


def times(results: Results, cases: int | None = None) -> str:
    """Milliseconds of ours and their share of the ceilings, ratios of the others; of the first cases or of all."""
    out = ["| case | torchbank | of matmul / of copy | others, as multiples of it |", "|---|---|---|---|"]
    for ours, *others in _cases([line for line in results.lines if line.median_ms is not None])[:cases]:
        ratios = "; ".join(f"{line.who} {_short(line.median_ms / ours.median_ms)} x" for line in others)
        share = f"{ours.of_matmul:.0%} / {ours.of_copy:.0%}"
        out.append(f"| {ours.case.title()} | {_short(ours.median_ms)} ms | {share} | {ratios} |")
    return "\n".join(out)


def memory(results: Results) -> str:
    """Extra megabytes, and who failed."""
    out = ["| case | torchbank, extra memory | others |", "|---|---|---|"]
    for ours, *others in _cases([line for line in results.lines if line.extra_mb is not None]):
        sizes = "; ".join(f"{line.who} {_megabytes(line.extra_mb)}" for line in others)
        out.append(f"| {ours.case.title()} | {_megabytes(ours.extra_mb)} | {sizes} |")
    failures = [skip for skip in results.skipped if "fails" in skip.why]
    out += [""] * bool(failures) + [f"- {skip.case.title()}: {skip.who}: {skip.why}" for skip in failures]
    return "\n".join(out)


def main(arguments: list[str]) -> None:
    """Print the tables, or write them into the documents, or print the name that a file should bear."""
    path = Path(next(argument for argument in arguments if not argument.startswith("--")))
    if "--name" in arguments:
        print(file_name(read(path)))
        return
    results = read(path)
    whole = f"{times(results)}\n\n{memory(results)}"
    if "--docs" not in arguments:
        print(whole)
        return
    for page, content in (("README.md", times(results, TELLING)), ("docs/benchmarks.md", whole)):
        text = (ROOT / page).read_text()
        (ROOT / page).write_text(filled(text, "benchmarks", source=path.name, content=content))


if __name__ == "__main__":
    main(sys.argv[1:])
