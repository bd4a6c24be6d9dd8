"""Data sets by name."""

from collections.abc import Callable
from typing import Any

from torchbank.data._folder import load_folder
from torchbank.data._kanji import load_kanji
from torchbank.data._labelled_images import Split
from torchbank.errors import BankKeyError

__all__ = ["load"]

_LOADERS: dict[str, Callable[..., Split]] = {"folder": load_folder, "kanji": load_kanji}


def load(name: str, **options: Any) -> Split:
    """Load a data set by name, split into classes to train on and other classes to test on.

    Args:
        name: `"kanji"` (ships with the package, no options) or `"folder"` (your images; see `load_folder` for
            its options `root`, `image_size`, `test_fraction`, `seed` and `lone_classes`).
        **options: Options of that data set.

    Raises:
        BankKeyError: No data set has this name.
        BankError: What the data set itself raises, such as a folder without images.

    Example:
        >>> train, test = load("kanji")
        >>> test.class_names[test[0][1]]
        '亜'
    """
    if name not in _LOADERS:
        msg = f"unknown data set {name!r}; expected one of {', '.join(map(repr, sorted(_LOADERS)))}"
        raise BankKeyError(msg)
    return _LOADERS[name](**options)
