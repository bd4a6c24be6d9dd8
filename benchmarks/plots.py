"""The README's two plots, time and memory against rows: `python -m benchmarks.plots FILE [FOLDER]`."""

import sys
from pathlib import Path

from torchbank.report import _style

from .schema import Results, read

IMAGES = Path(__file__).parents[1] / "docs" / "images"
LOOKS = {
    "torchbank": (_style.BLUE, "o"),
    "MoCo recipe": (_style.VERMILION, "s"),
    "lightly NTXentLoss": (_style.GREEN, "^"),
    "torch.compile": (_style.ORANGE, "D"),
}


def series(results: Results, number: str) -> dict[str, list[tuple[int, float]]]:
    """Rows and a number of each contestant, at the one batch, dim and dtype that has most sizes."""
    groups: dict[tuple, dict[str, dict[int, float]]] = {}
    for line in results.lines:
        value = getattr(line, number)
        if line.case.name == "info_nce" and not line.case.excluded and line.who in LOOKS and value is not None:
            key = (line.case.batch, line.case.dim, line.case.dtype)
            groups.setdefault(key, {}).setdefault(line.who, {})[line.case.rows] = value
    if not groups:
        msg = f"no info_nce line has {number}; run the whole list first"
        raise ValueError(msg)
    best = max(groups.values(), key=lambda group: max(len(points) for points in group.values()))
    return {who: sorted(points.items()) for who, points in best.items()}


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw both pictures and return where they are."""
    machine, paths = results.machine, []
    for number, name, label in (
        ("median_ms", "time", "milliseconds"),
        ("extra_mb", "memory", "MB beyond bank and inputs (1: below 1)"),
    ):
        path = folder / f"benchmark-{name}.png"
        with _style.picture(path) as figure:
            axes = figure.add_subplot()
            for who, points in series(results, number).items():
                color, marker = LOOKS[who]
                # A log scale has no zero; less than a megabyte is noise of the page size.
                axes.plot(*zip(*((x, max(y, 1e-3 if name == "time" else 1.0)) for x, y in points), strict=True),
                          color=color, marker=marker, markersize=8, label=who)  # fmt: skip
            axes.set(xscale="log", yscale="log", xlabel="rows in the bank", ylabel=label)
            axes.set_title(f"info_nce, forward and backward: {name} by rows")
            axes.legend(title=machine["device"], loc="upper left")
            _style.thousands(axes.xaxis)
            axes.yaxis.set_major_formatter("{x:,g}")
        paths.append(path)
    return paths


if __name__ == "__main__":
    for drawn in draw(read(Path(sys.argv[1])), Path(sys.argv[2]) if len(sys.argv) > 2 else IMAGES):
        print(drawn)
