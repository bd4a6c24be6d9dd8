"""`torchbank evaluate RUN`."""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from torchbank.cli._arguments import parse
from torchbank.cli._recipe import evaluate_run
from torchbank.cli._tables import print_scores

_DESCRIPTION = """Score the encoder of a finished run again, on the test classes of its data.

example:
  torchbank evaluate runs/kanji"""


@dataclass(frozen=True)
class _Arguments:
    """Which run.

    Args:
        run: The run folder.
    """

    run: tyro.conf.Positional[str]


def run(words: Sequence[str]) -> None:
    """Parse and evaluate."""
    arguments = parse(_Arguments, words, prog="torchbank evaluate", description=_DESCRIPTION)
    config, scores = evaluate_run(arguments.run)
    print_scores(f"{config.method_name} on the test classes of {config.data.data}", scores)
