"""Methods by name."""

from typing import Any, NamedTuple

from torch import nn

from torchbank.errors import BankKeyError, BankTypeError
from torchbank.methods.massl import MaSSL, MaSSLConfig
from torchbank.methods.moco import MoCo, MoCoConfig
from torchbank.methods.nnclr import NNCLR, NNCLRConfig
from torchbank.methods.npid import NPID, NPIDConfig
from torchbank.methods.simclr import SimCLR, SimCLRConfig
from torchbank.methods.xbm import XBM, XBMConfig


class Recipe(NamedTuple):
    """A method and its settings.

    Attributes:
        config: A frozen dataclass with a default for every setting.
        method: Built as ``method(encoder, config, dataset_size=...)``.
    """

    config: type
    method: type[nn.Module]


METHODS: dict[str, Recipe] = {
    "xbm": Recipe(XBMConfig, XBM),
    "moco": Recipe(MoCoConfig, MoCo),
    "npid": Recipe(NPIDConfig, NPID),
    "nnclr": Recipe(NNCLRConfig, NNCLR),
    "massl": Recipe(MaSSLConfig, MaSSL),
    "simclr": Recipe(SimCLRConfig, SimCLR),
}
"""Every method, by the name that `build` and the command line take."""


def build(name: str, encoder: nn.Module, config: Any = None, *, dataset_size: int | None = None) -> nn.Module:
    """Build a method around an encoder.

    Args:
        name: A key of `METHODS`.
        encoder: Images to embeddings.
        config: The method's own settings; None is its defaults.
        dataset_size: Training images.

    Raises:
        BankKeyError: No method has that name.
        BankTypeError: The settings are those of another method.

    Example:
        >>> import torch
        >>> from torchbank import methods
        >>> method = methods.build("xbm", torch.nn.Linear(4, 128), dataset_size=1_000)
        >>> method.bank.capacity
        1000
    """
    if name not in METHODS:
        msg = f"no method is called {name!r}; choose one of {', '.join(map(repr, METHODS))}"
        raise BankKeyError(msg)
    recipe = METHODS[name]
    config = recipe.config() if config is None else config
    if not isinstance(config, recipe.config):
        msg = f"{name} was given a {type(config).__name__}; expected a {recipe.config.__name__}"
        raise BankTypeError(msg)
    return recipe.method(encoder, config, dataset_size=dataset_size)
