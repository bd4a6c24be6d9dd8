"""`torchbank audit RUN`."""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from torchbank.cli._arguments import parse
from torchbank.cli._audit_run import audit_run
from torchbank.cli._tables import print_paths, print_rows
from torchbank.errors import BankValueError

_DESCRIPTION = """Find wrong labels and near-duplicates among the training images, from what the memory of a finished
run already holds: no image is embedded again.

Images are ranked by how much less they resemble the other images of their class than those of another class. Written to
the folder audit of the run: suspects.csv, near-duplicates.csv, and suspects.png, the first suspects beside images of
both classes.

examples:
  torchbank audit runs/kanji
  torchbank audit runs/photos --top 100 --similarity 0.95"""


@dataclass(frozen=True)
class _Arguments:
    """Which run, and how much of it.

    Args:
        run: The run folder.
        top: Suspects that are written; 0 writes all images.
        similarity: Least cosine of two images that are called near-duplicates.
        images: Suspects on the sheet.
    """

    run: tyro.conf.Positional[str]
    top: int = 500
    similarity: float = 0.98
    images: int = 12

    def __post_init__(self) -> None:
        if self.top < 0 or self.images < 1 or not -1 <= self.similarity <= 1:
            msg = (
                f"top is {self.top}, images {self.images} and similarity {self.similarity}; expected 0 or more, 1 or "
                "more and a cosine"
            )
            raise BankValueError(msg)


def run(words: Sequence[str]) -> None:
    """Parse and audit."""
    arguments = parse(_Arguments, words, prog="torchbank audit", description=_DESCRIPTION)
    audit = audit_run(arguments.run, top=arguments.top, similarity=arguments.similarity, drawn=arguments.images)
    print(f"{audit.remembered:,} of {audit.images:,} training images are remembered.")
    rows = [
        (str(s.rank), s.image, s.label, f"{s.own:.2f}", s.other, f"{s.similarity:.2f}") for s in audit.suspects[:10]
    ]
    print_rows("least like their class", ("rank", "image", "class", "mean cosine", "more like", "mean cosine"), rows)
    across = sum(pair.first_label != pair.second_label for pair in audit.duplicates)
    alike = f"cosine {arguments.similarity:g} or more"
    print(f"{len(audit.duplicates):,} pairs are alike ({alike}), {across:,} of them of two classes.")
    print_paths("written", audit.files)
