"""The table of the README, from a file of results: `python -m benchmarks.table benchmarks/results/FILE.json`."""

import json
import sys
from pathlib import Path


def cases(lines: list[dict], number: str) -> dict[str, dict[str, float]]:
    """Per case, the number of each contestant."""
    table: dict[str, dict[str, float]] = {}
    for line in lines:
        settings = " ".join(f"{key} {line[key]:,}" for key in ("batch", "rows", "dim", "k") if key in line)
        table.setdefault(f"`{line['case']}` {settings}", {})[line["who"]] = line[number]
    return table


def markdown(results: dict) -> str:
    """Milliseconds of ours, ratios of the others, and megabytes beyond bank and inputs."""
    out = ["| case | torchbank | others, as multiples of it |", "|---|---|---|"]
    for case, times in cases(results["times"], "median_ms").items():
        (_, ours), *others = times.items()
        ratios = "; ".join(f"{who} {time / ours:.2g} x" for who, time in others)
        out.append(f"| {case} | {ours:.3g} ms | {ratios} |")
    out += ["", "| case | torchbank, extra memory | others |", "|---|---|---|"]
    for case, sizes in cases(results["memory"], "extra_megabytes").items():
        (_, ours), *others = sizes.items()
        out.append(f"| {case} | {ours:.0f} MB | {'; '.join(f'{who} {size:,.0f} MB' for who, size in others)} |")
    return "\n".join(out)


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text())))
