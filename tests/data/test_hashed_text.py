"""Texts as tokens, against a spelled-out list of their parts."""

import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbank import data
from torchbank.data import HashedTexts
from torchbank.errors import BankValueError


def tokens_of(text: str) -> list[int]:
    row = HashedTexts([text]).padded(torch.tensor([0]))[0]
    return row[row > 0].tolist()


def test_hashed_text__a_word_is_itself_and_its_n_grams():
    parts = ["<mice>", "<mi", "mic", "ice", "ce>", "<mic", "mice", "ice>", "<mice", "mice>"]
    assert tokens_of("mice") == [1 + zlib.crc32(part.encode()) % (2**31 - 1) for part in parts]


def test_hashed_text__case_and_punctuation_do_not_matter():
    assert tokens_of("The cat, (a feline)!") == tokens_of("the CAT a_feline")
    assert tokens_of("Ærø 12") == tokens_of("ærø") + tokens_of("12")
    assert tokens_of("...") == tokens_of("") == []


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6), st.data())
def test_hashed_text__padding_changes_no_text(texts, draw):
    rows = draw.draw(st.lists(st.integers(0, len(texts) - 1), max_size=5))
    padded = HashedTexts(texts).padded(torch.tensor(rows, dtype=torch.int64))
    expected = [tokens_of(texts[row]) for row in rows]
    assert padded.shape == (len(rows), max([1, *map(len, expected)]))
    for tokens, alone in zip(padded.tolist(), expected, strict=True):
        assert tokens == alone + [0] * (len(tokens) - len(alone))


def test_hashed_text__a_long_text_is_cut():
    assert len(tokens_of("antidisestablishmentarianism " * 50)) == 256


@pytest.mark.plain
def test_text_pairs__sides_must_be_as_long():
    with pytest.raises(BankValueError, match="there are 2 and 1 texts and 2 labels"):
        data.TextPairs(["a", "b"], ["c"], torch.arange(2), class_names="ab", name="pairs")
