"""Pairs of lemma and gloss, from small files and those of the Debian package where it is installed."""

from pathlib import Path

import pytest
import torch

from torchbank import data
from torchbank.data import HashedTexts, ViewBatch
from torchbank.data._wordnet import DEBIAN_FOLDER, FILES
from torchbank.errors import BankValueError, FileFormatError

HEAD = "  1 This software and database is being provided to you, the LICENSEE  \n"
LINES = {
    "data.noun": [
        "00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | that which is perceived  ",
        '00002684 03 n 02 object 0 physical_object 0 001 ~ 00003553 n 0000 | a visible entity; "full of objects"  ',
    ],
    "data.verb": ["00001740 29 v 04 take_a_breath 0 breathe 0 000 02 + 02 00 | draw air into; and out  "],
    "data.adj": ['03155194 44 a 01 afraid(p) 0 000 | filled with fear; "afraid of snakes"  '],
    "data.adv": ["00001740 02 r 01 a_cappella 0 000 | without musical accompaniment  "],
}
PAIRS = [
    ("entity", "that which is perceived"),
    ("object", "a visible entity"),
    ("take a breath", "draw air into; and out"),
    ("afraid", "filled with fear"),
    ("a cappella", "without musical accompaniment"),
]


@pytest.fixture
def root(tmp_path) -> Path:
    for name, lines in LINES.items():
        (tmp_path / name).write_text(HEAD + "\n".join(lines) + "\n", "latin-1")
    return tmp_path


def test_wordnet__pairs_the_first_lemma_with_the_gloss_without_examples(root):
    train, test = data.load("wordnet", root=root, test_synsets=2)
    assert (len(train), len(test)) == (3, 2)
    texts = dict(zip((*train.labels.tolist(), *test.labels.tolist()), (*train.texts, *test.texts), strict=True))
    assert [texts[label] for label in range(5)] == PAIRS
    assert train.class_names == test.class_names == tuple(lemma for lemma, _ in PAIRS)
    assert not data.Split(train, test).shares_classes


def test_wordnet__a_batch_is_two_views_of_tokens(root):
    train, _ = data.load("wordnet", root=root, test_synsets=1)
    batch = train.__getitems__([2, 0])
    assert isinstance(batch, ViewBatch)
    for side, view in enumerate(batch.views):
        assert view.dtype == torch.int64
        for row, tokens in zip((2, 0), view, strict=True):
            alone = HashedTexts([train.texts[row][side]]).padded(torch.tensor([0]))[0]
            assert torch.equal(tokens[: len(alone)], alone)
            assert not tokens[len(alone) :].any()
    assert torch.equal(batch.labels, train.labels[[2, 0]])
    assert batch.ids.tolist() == [2, 0]
    assert [len(view) for view in train.__getitems__([]).views] == [0, 0]


def test_wordnet__the_split_and_fingerprint_are_fixed(root):
    first, again = (data.load("wordnet", root=root, test_synsets=2) for _ in range(2))
    assert torch.equal(first.test.labels, again.test.labels)
    assert first.train.fingerprint == again.train.fingerprint != first.test.fingerprint


@pytest.mark.skipif(not Path(DEBIAN_FOLDER).is_dir(), reason="needs the Debian package wordnet-base")
def test_wordnet__of_debian():
    train, test = data.load("wordnet")
    assert (len(train), len(test)) == (115_659, 2_000)
    assert not torch.isin(test.labels, train.labels).any()
    lemmas = {lemma for lemma, _ in (*train.texts, *test.texts)}
    assert {"dog", "physical entity", "breathe", "able", "a cappella"} <= lemmas
    for part in (train, test):
        assert all(lemma and gloss and "\n" not in gloss for lemma, gloss in part.texts)
    views = train.__getitems__(range(256)).views
    assert all((view[:, 0] > 0).all() for view in views)
    assert views[1].shape[1] <= 256


@pytest.mark.plain
@pytest.mark.parametrize(("count", "error"), [(0, "test_synsets is 0"), (5, "test_synsets is 5; expected 1 to 4")])
def test_wordnet__some_must_train_and_some_test(root, count, error):
    with pytest.raises(BankValueError, match=error):
        data.load("wordnet", root=root, test_synsets=count)


@pytest.mark.plain
@pytest.mark.parametrize("line", ["00001740 03 n", "<html> | x", "one two three four five six"])
def test_wordnet__says_which_line_is_wrong(root, line):
    (root / "data.verb").write_text(f"{HEAD}{line}\n")
    with pytest.raises(FileFormatError, match=r"line 2 of .*data.verb.* expected a synset"):
        data.load("wordnet", root=root)


@pytest.mark.plain
@pytest.mark.parametrize("name", FILES)
def test_wordnet__a_missing_file_says_where_to_get_it(root, name):
    (root / name).unlink()
    with pytest.raises(BankValueError, match=rf"no {name} in .*; install the Debian package wordnet-base"):
        data.load("wordnet", root=root)
