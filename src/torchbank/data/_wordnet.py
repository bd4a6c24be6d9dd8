"""The data set `wordnet`: words with their definitions, from the files of WordNet 3.0."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from torchbank.data._labelled_images import Split
from torchbank.data._text_pairs import TextPairs
from torchbank.errors import BankValueError, FileFormatError

__all__ = ["load_wordnet"]

DEBIAN_FOLDER = "/usr/share/wordnet"
FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
# Which synsets test, whatever their number.
PROTOCOL_SEED = 0


def load_wordnet(root: str | Path = DEBIAN_FOLDER, *, test_synsets: int = 2_000) -> Split:
    """Load the lemmas and glosses of WordNet as pairs of texts, split by synset.

    [Miller 1995](https://doi.org/10.1145/219717.219748). A synset is a meaning; its pair is the first of its words,
    the lemma, and its gloss without the example sentences. 117,659 synsets in WordNet 3.0. A word of several
    meanings is the lemma of several pairs.

    Args:
        root: The folder of `data.noun`, `data.verb`, `data.adj` and `data.adv`; by default where the Debian package
            wordnet-base puts them.
        test_synsets: How many synsets test; the others train.

    Returns:
        `TextPairs`: lemmas are the first side, glosses the second. The label of a pair is its place in the files.

    Raises:
        BankValueError: A file is missing, or `test_synsets` leaves none to train or to test.
        FileFormatError: A line is no synset.

    Example:
        >>> load_wordnet("no/such/place")
        Traceback (most recent call last):
        torchbank.errors.BankValueError: no data.noun in 'no/such/place'; install the Debian package wordnet-base, or \
give the folder of the files of WordNet as root
    """
    root = Path(root)
    pairs = [pair for file in FILES for pair in _read(root, file)]
    if not 0 < test_synsets < len(pairs):
        msg = f"test_synsets is {test_synsets}; expected 1 to {len(pairs) - 1:,}, less than all that are there"
        raise BankValueError(msg)
    order = torch.from_numpy(np.random.default_rng(PROTOCOL_SEED).permutation(len(pairs)))
    lemmas, glosses = zip(*pairs, strict=True)
    parts = []
    for rows in (order[test_synsets:].sort().values, order[:test_synsets].sort().values):
        first, second = ([side[row] for row in rows.tolist()] for side in (lemmas, glosses))
        parts.append(TextPairs(first, second, rows, class_names=lemmas, name="wordnet"))
    return Split(*parts)


def _read(root: Path, file: str) -> Iterator[tuple[str, str]]:
    """Lemma and gloss of each synset of one file."""
    path = root / file
    if not path.is_file():
        msg = (
            f"no {file} in {str(root)!r}; install the Debian package wordnet-base, or give the folder of the files of "
            "WordNet as root"
        )
        raise BankValueError(msg)
    for number, line in enumerate(path.read_text("latin-1").splitlines(), start=1):
        # The licence at the head is indented.
        if not line.startswith(" "):
            yield _parse(line, f"line {number} of {str(path)!r}")


def _parse(line: str, place: str) -> tuple[str, str]:
    """Lemma and gloss of a synset: offset, file, type, number of words, first word, ... | gloss; "examples"."""
    synset, bar, gloss = line.partition(" | ")
    fields = synset.split(" ", 5)
    if not bar or len(fields) < 6 or not fields[0].isdigit():
        msg = f"{place} is {line[:40]!r}; expected a synset, as in the files data.* of WordNet 3.0"
        raise FileFormatError(msg)
    # An adjective may end in its place in the sentence, such as "(p)".
    lemma = fields[4].partition("(")[0].replace("_", " ")
    return lemma, gloss.partition('; "')[0].strip()
