"""The tables of docs/tracking.md, from results files."""

from pathlib import Path
from statistics import fmean
from typing import Any

from ..documents import ROOT, write_table

PAGE = ROOT / "docs" / "tracking.md"
TRACKER, APPEARANCE, MEMORY = "ByteTrack 30", "DeepSORT 30", ", memory"
Key = tuple[str, str, str]
"""Scene or clip, contestant, and "at the time" or "corrected"."""


def write(name: str, source: Path, table: str) -> None:
    """Put a table into the page, if it is of the results that the project keeps."""
    if source.parent == ROOT / "benchmarks" / "results":
        write_table(name, source, table, page=PAGE)


def means(lines: list[dict[str, Any]], measure: str, *, place: str = "scene") -> dict[Key, float]:
    """A measure by key, the mean over seeds."""
    grouped: dict[Key, list[float]] = {}
    for line in lines:
        if line[measure] is not None:
            grouped.setdefault((line[place], line["who"], line["when"]), []).append(line[measure])
    return {key: fmean(values) for key, values in grouped.items()}


def best_alone(found: dict[Key, float], kind: str) -> tuple[str, float]:
    """The best contestant without a memory, any buffer."""
    alone = {key[1]: value for key, value in found.items() if key[0] == kind and MEMORY not in key[1]}
    who = max(alone, key=lambda name: alone[name])
    return who, alone[who]


def scenes(results: dict[str, Any]) -> str:
    """One row a kind of scene, ``IDF1 / AssA`` in each cell."""
    idf1, ass_a = (means(results["lines"], measure) for measure in ("idf1", "ass_a"))

    def cell(kind: str, who: str, when: str = "at the time") -> str:
        key = (kind, who, when)
        return f"{idf1[key]:.3f} / {ass_a[key]:.3f}" if key in idf1 else ""

    head = (
        "scene", "ByteTrack 30", "best tracker alone", "+ memory, at the time", "+ memory, corrected",
        "+ memory, calibrated before, at the time", "corrected",
    )  # fmt: skip
    rows = [head, ("---",) * len(head)]
    for kind in dict.fromkeys(line["scene"] for line in results["lines"]):
        who, _ = best_alone(idf1, kind)
        mine = [cell(kind, f"{TRACKER}{MEMORY} {how}", when) for how in ("self", "held-out") for when in WHEN]
        rows.append((kind, cell(kind, TRACKER), f"{cell(kind, who)} ({who})", *mine))
    return markdown(rows)


WHEN = ("at the time", "corrected")


def behind_deep_sort(results: dict[str, Any]) -> str:
    """The same behind DeepSORT, IDF1 only."""
    idf1 = means(results["lines"], "idf1")
    head = ("scene", "DeepSORT 30", "DeepSORT 900", "DeepSORT 30 + memory, at the time", "corrected",
            "calibrated before, at the time", "corrected")  # fmt: skip
    rows = [head, ("---",) * len(head)]
    for kind in dict.fromkeys(line["scene"] for line in results["lines"]):
        keys = [(kind, APPEARANCE, WHEN[0]), (kind, "DeepSORT 900", WHEN[0])]
        keys += [(kind, f"{APPEARANCE}{MEMORY} {how}", when) for how in ("self", "held-out") for when in WHEN]
        rows.append((kind, *(f"{idf1[key]:.3f}" if key in idf1 else "" for key in keys)))
    return markdown(rows)


def pets(results: dict[str, Any]) -> str:
    """One row for each clip and contestant: at the time, and corrected where that is another thing."""
    measures = ("idf1", "ass_a", "hota", "mota")
    rows = [("clip", "who", "IDF1", "AssA", "HOTA", "MOTA", "ids"), ("---",) * 7]
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in results["lines"]:
        grouped.setdefault((line["clip"], line["who"]), []).append(line)
    for (clip, who), lines in grouped.items():
        numbers = (" / ".join(f"{line[name]:.3f}" for line in lines) for name in measures)
        rows.append((clip, who, *numbers, " / ".join(str(line["ids"]) for line in lines)))
    return markdown(rows)


def stream(results: dict[str, Any]) -> str:
    """The first full window and the last of each stream."""
    head = ("stream", "people seen", "identities kept", "median ms a frame, first tenth", "last tenth",
            "99th percentile, last tenth", "gallery, MB", "process at the end, MB")  # fmt: skip
    rows = [head, ("---",) * len(head)]
    for name, words in (("changing", "10 hours in 25,500 frames, everyone stays for 10"),
                        ("camera", "a camera, 10 frames a second, everyone stays for 14 s"),
                        ("steady", "everyone stays for 500 frames")):  # fmt: skip
        if name not in results:
            continue
        windows = results[name]["windows"]
        tenth = max(1, len(windows) // 10)
        first, last = windows[:tenth], windows[-tenth:]
        rows.append(
            (
                words, f"{results[name]['people']:,}", f"{windows[-1]['identities']:,}",
                *(f"{fmean(w['median_ms'] for w in part):.2f}" for part in (first, last)),
                f"{fmean(w['p99_ms'] for w in last):.2f}",
                f"{windows[-1]['gallery_bytes'] / 1e6:.1f}", f"{windows[-1]['process_bytes'] / 1e6:.0f}",
            )
        )  # fmt: skip
    return markdown(rows)


def markdown(rows: list[tuple[str, ...]]) -> str:
    """Rows as a table; the second holds the dashes."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
