"""Data sets by name."""

import pytest

from torchbank import data
from torchbank.errors import BankKeyError, BankTypeError


@pytest.mark.plain
def test_load__unknown_name_lists_the_choices():
    with pytest.raises(BankKeyError) as caught:
        data.load("cifar")
    names = (
        "'cars', 'cifar10', 'cifar100', 'cub', 'fashion-mnist', 'folder', 'inshop', 'kanji', 'sop', 'vehicleid', "
        "'wordnet'"
    )
    assert str(caught.value) == f"unknown data set 'cifar'; expected one of {names}"


@pytest.mark.plain
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("kanji", {"root": "x"}, "kanji takes no option root; expected none"),
        ("folder", {"root": "x", "size": 3}, "folder takes no option size; expected root, image_size, test_fraction"),
        ("folder", {}, "folder needs the option root"),
        ("cifar10", {}, "cifar10 needs the option root"),
        ("wordnet", {"size": 3}, "wordnet takes no option size; expected root, test_synsets"),
    ],
)
def test_load__wrong_options_are_named(name, options, message):
    with pytest.raises(BankTypeError, match=message):
        data.load(name, **options)
