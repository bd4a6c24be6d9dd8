"""Texts as numbers: every word and its character n-grams, hashed; no vocabulary is kept."""

import re
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

__all__ = ["HashedTexts"]

# [Bojanowski et al. 2017, section 3.2](arXiv:1607.04606): n-grams of 3 to 6 characters. The longest are left out
# here: they are as many as the others and add little to words that are there whole.
SHORTEST, LONGEST = 3, 5
# A text is cut to so many tokens, about 20 words.
LONGEST_TEXT = 256
_WORD = re.compile(r"[^\W_]+")


class HashedTexts:
    """Texts as ragged lists of tokens.

    A token is a hash, from 1 to 2^31 - 1, of a word between its boundary marks, `<cat>`, or of 3 to 5 characters of
    it. A network folds tokens into as many rows as it has (`torchbank.encoders.NGramEncoder`). Case is ignored, and
    so is what is neither letter nor digit.

    Args:
        texts: The texts.

    Example:
        >>> tokens = HashedTexts(["cat", "a cat", ""]).padded(torch.arange(3))
        >>> tokens.shape, tokens[2].tolist()
        (torch.Size([3, 7]), [0, 0, 0, 0, 0, 0, 0])
        >>> bool(torch.isin(tokens[0, :6], tokens[1]).all())
        True
    """

    def __init__(self, texts: Sequence[str]) -> None:
        rows = [
            np.fromiter(chain.from_iterable(map(_word_tokens, _WORD.findall(text.lower()))), np.int32)[:LONGEST_TEXT]
            for text in texts
        ]
        self._tokens = torch.from_numpy(np.concatenate([*rows, np.empty(0, np.int32)]))
        self._lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        self._starts = self._lengths.cumsum(0) - self._lengths

    def __len__(self) -> int:
        return len(self._lengths)

    def padded(self, rows: Int64[Tensor, " batch"]) -> Int64[Tensor, "batch length"]:
        """The tokens of several texts, with 0 after the end of the shorter ones."""
        lengths = self._lengths[rows]
        place = torch.arange(max(1, int(lengths.max()) if len(rows) else 1))
        inside = place < lengths[:, None]
        positions = torch.where(inside, self._starts[rows][:, None] + place, 0)
        return torch.where(inside, self._tokens[positions], 0).to(torch.int64) if len(self._tokens) else positions


@lru_cache(maxsize=2**17)
def _word_tokens(word: str) -> tuple[int, ...]:
    return tuple(1 + zlib.crc32(part.encode()) % (2**31 - 1) for part in _parts(f"<{word}>"))


def _parts(marked: str) -> Iterator[str]:
    yield marked
    for length in range(SHORTEST, min(LONGEST, len(marked) - 1) + 1):
        for start in range(len(marked) - length + 1):
            yield marked[start : start + length]
