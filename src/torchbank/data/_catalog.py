"""Data sets by name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torchbank.data._cars import load_cars
from torchbank.data._cifar import load_cifar10, load_cifar100
from torchbank.data._cub import load_cub
from torchbank.data._fashion_mnist import load_fashion_mnist
from torchbank.data._folder import load_folder
from torchbank.data._in_shop import load_in_shop
from torchbank.data._kanji import load_kanji
from torchbank.data._labelled_images import Split
from torchbank.data._sop import load_sop
from torchbank.data._vehicle_id import load_vehicle_id
from torchbank.data._wordnet import load_wordnet
from torchbank.errors import BankKeyError, BankTypeError

__all__ = ["load"]

_LOADERS: dict[str, Callable[..., Split]] = {
    "cars": load_cars,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "cub": load_cub,
    "fashion-mnist": load_fashion_mnist,
    "folder": load_folder,
    "inshop": load_in_shop,
    "kanji": load_kanji,
    "sop": load_sop,
    "vehicleid": load_vehicle_id,
    "wordnet": load_wordnet,
}


def load(name: str, **options: Any) -> Split:
    """Load a data set by name, in a part to train on and a part to test on.

    | name | what it holds | options | train and test |
    |---|---|---|---|
    | `kanji` | characters in ten fonts; in the package | none | other classes |
    | `folder` | your images | those of `load_folder` | other classes, or as given |
    | `fashion-mnist` | grey photographs of clothes | `root` (`load_fashion_mnist`) | the same classes |
    | `cifar10`, `cifar100` | small colour photographs | `root` (`load_cifar10`) | the same classes |
    | `sop` | photographs of products for sale | `root`, `image_size`, `counts` (`load_sop`) | other classes |
    | `inshop` | photographs of clothes, queries and gallery | the same (`load_in_shop`) | other classes |
    | `vehicleid` | photographs of vehicles | those of `load_vehicle_id` | other classes |
    | `cub`, `cars` | photographs of birds, of cars | those of `load_sop` (`load_cub`, `load_cars`) | other classes |
    | `wordnet` | lemmas and glosses, `TextPairs` | `root`, `test_synsets` (`load_wordnet`) | other synsets |

    Args:
        name: A name of the table.
        **options: Options of that data set. `root` is the folder of its files; `fashion-mnist` and `wordnet` are
            also found where their Debian packages put them.

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
