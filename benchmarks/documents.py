"""Results files, and their tables between the markers of a page.

The markers are `<!-- NAME: begin SOURCE -->` and `<!-- NAME: end -->`.
"""

import json
import re
from pathlib import Path
from typing import Any

from .measure import machine

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "self-supervised.md"


def filled(page: str, name: str, *, source: str, content: str) -> str:
    """The page with other content between the markers of a name; the first marker names the source.

    Raises:
        ValueError: The page has no such markers.
    """
    markers = re.compile(rf"<!-- {re.escape(name)}: begin.*?<!-- {re.escape(name)}: end -->", re.DOTALL)
    if not markers.search(page):
        msg = f"the page has no markers '{name}: begin' and '{name}: end' in comments; add them where the table belongs"
        raise ValueError(msg)
    block = f"<!-- {name}: begin {source} -->\n\n{content}\n\n<!-- {name}: end -->"
    return markers.sub(lambda _: block, page)


def write_results(path: Path, runs: list[dict[str, Any]]) -> None:
    """Write what was measured, and on what."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine("cpu"), "runs": runs}, indent=1, allow_nan=False) + "\n")


def write_table(name: str, source: Path, table: str, *, page: Path = PAGE) -> None:
    """Put a table with its machine between the markers of a page."""
    where = json.loads(source.read_text())["machine"]
    cores = "1 core" if where["cores"] == 1 else f"{where['cores']} cores"
    content = f"{table}\n\n{where['device']}, {cores}, torch {where['torch']}, {where['date']}."
    page.write_text(filled(page.read_text(), name, source=source.name, content=content))
