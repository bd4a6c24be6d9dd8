"""Data sets by name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torchbank.data._folder import load_folder
from torchbank.data._kanji import load_kanji
from torchbank.data._labelled_images import Split
from torchbank.errors import BankKeyError, BankTypeError

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
        BankTypeError: The data set does not take these options, or needs another.
        BankError: What the data set itself raises, such as a folder without images.

    Example:
        >>> train, test = load("kanji")
        >>> test.class_names[test[0][1]]
        '亜'
    """
    if name not in _LOADERS:
        msg = f"unknown data set {name!r}; expected one of {', '.join(map(repr, sorted(_LOADERS)))}"
        raise BankKeyError(msg)
    _check_options(name, options)
    return _LOADERS[name](**options)


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    takes = inspect.signature(_LOADERS[name]).parameters
    unknown = [option for option in options if option not in takes]
    if unknown:
        msg = f"{name} takes no option {unknown[0]}; expected {', '.join(takes) or 'none'}"
        raise BankTypeError(msg)
    missing = [option for option, about in takes.items() if about.default is about.empty and option not in options]
    if missing:
        msg = f"{name} needs the option {missing[0]}; expected {', '.join(takes)}"
        raise BankTypeError(msg)
