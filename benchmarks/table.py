"""The table of a results file: `python -m benchmarks.table FILE`; with `--readme`, between the README's markers;
with `--name`, the device as a file name."""

import sys
from pathlib import Path

from .documents import filled
from .schema import Line, Results, file_name, read

README = Path(__file__).parents[1] / "README.md"


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


def markdown(results: Results) -> str:
    """Milliseconds of ours and their share of the ceilings, ratios of the others; then extra megabytes."""
    out = ["| case | torchbank | of matmul / of copy | others, as multiples of it |", "|---|---|---|---|"]
    for ours, *others in _cases([line for line in results.lines if line.median_ms is not None]):
        ratios = "; ".join(f"{line.who} {_short(line.median_ms / ours.median_ms)} x" for line in others)
        share = f"{ours.of_matmul:.0%} / {ours.of_copy:.0%}"
        out.append(f"| {ours.case.title()} | {_short(ours.median_ms)} ms | {share} | {ratios} |")
    memory = _cases([line for line in results.lines if line.extra_mb is not None])
    if memory:
        out += ["", "| case | torchbank, extra memory | others |", "|---|---|---|"]
    for ours, *others in memory:
        sizes = "; ".join(f"{line.who} {_megabytes(line.extra_mb)}" for line in others)
        out.append(f"| {ours.case.title()} | {_megabytes(ours.extra_mb)} | {sizes} |")
    failures = [skip for skip in results.skipped if "fails" in skip.why]
    out += [""] * bool(failures) + [f"- {skip.case.title()}: {skip.who}: {skip.why}" for skip in failures]
    return "\n".join(out)


def main(arguments: list[str]) -> None:
    """Print the table, or write it into the README, or print the name that a file should bear."""
    path = Path(next(argument for argument in arguments if not argument.startswith("--")))
    if "--name" in arguments:
        print(file_name(read(path)))
        return
    if "--readme" in arguments:
        table = markdown(read(path))
        README.write_text(filled(README.read_text(), "benchmarks", source=path.name, content=table))
    else:
        print(markdown(read(path)))


if __name__ == "__main__":
    main(sys.argv[1:])
