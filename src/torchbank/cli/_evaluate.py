"""`torchbank evaluate RUN`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import tyro

from torchbank.cli._arguments import parse
from torchbank.cli._evaluate_run import Protocol, Settings, evaluate_run
from torchbank.cli._tables import print_evaluation

_DESCRIPTION = """Score the frozen encoder of a finished run by one protocol or several, and write the scores to
evaluation.json in its folder.

knn        weighted k-nearest neighbours
linear     a linear layer trained on its features
lowshot    the same with 1 % and 10 % of the labels
transfer   knn and linear on another data set (--to)
retrieval  other images of the same class, among the test images

examples:
  torchbank evaluate runs/kanji
  torchbank evaluate runs/clothes --protocol knn linear lowshot retrieval
  torchbank evaluate runs/kanji --protocol transfer --to fashion-mnist"""


@dataclass(frozen=True)
class _Arguments:
    """Which run, and how.

    Args:
        run: The run folder.
        protocol: Which protocols.
        to: The data set of the protocol transfer, as in torchbank train --data.
        to_root: The folder of that data set, where it needs one.
        settings: What the protocols are told.
    """

    run: tyro.conf.Positional[str]
    protocol: tuple[Protocol, ...] = ("retrieval",)
    to: str | None = None
    to_root: str | None = None
    settings: Settings = field(default_factory=Settings)


def run(words: Sequence[str]) -> None:
    """Parse and evaluate."""
    arguments = parse(_Arguments, words, prog="torchbank evaluate", description=_DESCRIPTION)
    settings, to, to_root = arguments.settings, arguments.to, arguments.to_root
    print_evaluation(evaluate_run(arguments.run, arguments.protocol, settings, to=to, to_root=to_root))
