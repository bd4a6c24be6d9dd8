"""Everything that a run is told, as nested dataclasses: the command line and ``config.json`` are made of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Generic, Literal, TypeVar

import tyro

from torchbank.cli._arguments import as_offered, for_method, parse
from torchbank.cli._errors import UsageError
from torchbank.cli._settings import settings_of
from torchbank.data import VehicleGallery, VehicleTest
from torchbank.errors import BankKeyError, BankValueError, FileFormatError
from torchbank.methods import METHODS
from torchbank.training import TrainingConfig

Method = TypeVar("Method")

Recipe = Literal["sop", "inshop", "vehicleid"]


@dataclass(frozen=True)
class DataConfig:
    """Which data, and which of their classes test.

    Args:
        data: kanji (in the package), fashion-mnist, cifar10, cifar100, sop, inshop, vehicleid, cub, cars, folder or
            wordnet (pairs of texts).
        root: The folder of the data: for folder, with one folder a class, or with train and test and these in both;
            for the others, with the files as they are published. kanji needs none, nor do fashion-mnist and wordnet
            where their Debian packages are installed.
        image_size: Height and width to which images of a folder, and of sop, inshop, vehicleid, cub and cars, are
            scaled.
        counts: Whether the lists of sop, inshop, vehicleid, cub and cars must hold as much as is published.
        test_list: The list of vehicleid that tests.
        gallery: What an image of vehicleid is looked for in: all other test images, or one random image of each
            vehicle.
        test_fraction: Share of a folder's classes that test.
        split_seed: Which classes of a folder test.
        lone_classes: What to do about a folder's classes of one image.
    """

    data: str = "kanji"
    root: str | None = None
    image_size: int = 224
    counts: Literal["official", "any"] = "official"
    test_list: VehicleTest = "small"
    gallery: VehicleGallery = "all-others"
    test_fraction: float = 0.5
    split_seed: int = 0
    lone_classes: Literal["error", "drop", "keep"] = "error"


@dataclass(frozen=True)
class EncoderConfig:
    """Which network embeds the images, or texts.

    Args:
        encoder: convnet, resnet18-small, resnet50, timm:NAME, hf:NAME, torchscript:FILE or module:function; ngrams for
            texts.
        weights: A file of weights to begin with.
    """

    encoder: str = "convnet"
    weights: str | None = None


@dataclass(frozen=True)
class RunConfig(Generic[Method]):
    """One run: data, encoder, method and training."""

    method_name: tyro.conf.Suppress[str]
    data: DataConfig
    encoder: EncoderConfig
    method: Method
    training: TrainingConfig

    @classmethod
    def default(cls, method_name: str, data_name: str = "kanji", *, recipe: str | None = None) -> "RunConfig":
        """The defaults of a method on a data set.

        Args:
            method_name: A name in `torchbank.methods.METHODS`.
            data_name: As in `DataConfig`.
            recipe: Another data set, whose defaults are taken.

        Raises:
            BankKeyError: There is no such method.
        """
        if method_name not in METHODS:
            msg = f"unknown method {method_name!r}; expected one of {', '.join(map(repr, sorted(METHODS)))}"
            raise BankKeyError(msg)
        method = as_offered(METHODS[method_name].config)()
        plain = cls(method_name, DataConfig(data=data_name), EncoderConfig(), method, TrainingConfig())
        return plain.with_settings(settings_of(method_name, recipe or data_name))

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "RunConfig":
        """The configuration that `as_json` wrote.

        Args:
            content: The object in a ``config.json``.

        Raises:
            FileFormatError: It is not of this version of torchbank.
        """
        try:
            default = cls.default(content["method_name"])
            sections = {name: type(getattr(default, name))(**content[name]) for name in _SECTIONS}
        except (KeyError, TypeError) as error:
            msg = (
                f"the run's config.json does not fit this torchbank ({error}); train again or use the version it names"
            )
            raise FileFormatError(msg) from error
        return replace(default, **sections)

    def as_json(self) -> dict[str, Any]:
        """The configuration as nested dictionaries of plain values."""
        return asdict(self)

    def resolved(self) -> "RunConfig":
        """The same with what the method takes from the run filled in: its seed and how many updates there are."""
        method: Any = self.method
        run = {"seed": self.training.seed, "total_steps": self.training.steps}
        taken = {setting.name for setting in fields(method)} & run.keys()
        return replace(self, method=replace(method, **{name: run[name] for name in taken}))

    def with_batch_size(self, batch_size: int) -> "RunConfig":
        """The same with another batch size and, where batches are drawn by class, as many images a class.

        Args:
            batch_size: A multiple of the images a class.

        Raises:
            BankValueError: It is not.
        """
        if self.training.images_per_batch is not None:
            return replace(self, training=replace(self.training, images_per_batch=batch_size))
        images = self.training.images_per_class
        if batch_size < 1 or batch_size % images:
            msg = f"batch size {batch_size} is not a multiple of the {images} images a class; give another"
            raise BankValueError(msg)
        return replace(self, training=replace(self.training, classes_per_batch=batch_size // images))

    def with_settings(self, settings: Sequence[str]) -> "RunConfig":
        """The same with some settings changed.

        Args:
            settings: Texts such as "learning-rate=1e-3", each an option of the command line without its dashes.

        Raises:
            UsageError: A text has no "=", or names no option, or the value does not fit.
        """
        words: list[str] = []
        for setting in settings:
            name, equals, value = setting.partition("=")
            if not equals:
                msg = f"{setting!r} is no setting; expected NAME=VALUE, such as learning-rate=1e-3"
                raise UsageError(msg)
            words += [f"--{name}", value]
        target = for_method(type(self), type(self.method))
        prog = f"torchbank train {self.method_name}"
        return parse(target, words, prog=prog, default=self, booleans="words")

    def differences(self, other: "RunConfig") -> list[str]:
        """Where another configuration differs, each as "name: this, not other"."""
        mine, theirs = self.as_json(), other.as_json()
        return [
            f"{name}: {value!r}, not {theirs[section][name]!r}"
            for section in _SECTIONS
            for name, value in mine[section].items()
            if value != theirs[section][name]
        ]


_SECTIONS = ("data", "encoder", "method", "training")


def parse_with_config(arguments: Any, method_name: str, words: Sequence[str], *, prog: str, description: str) -> Any:
    """Make a dataclass of arguments with a ``config`` and a ``recipe`` in it.

    Its defaults are those of the recipe, or else suit the data set that the words name.

    Args:
        arguments: The generic dataclass.
        method_name: A name in `torchbank.methods.METHODS`.
        words: The command line after the method's name.
        prog: What the help calls the command.
        description: The head of the help.

    Returns:
        The instance.

    Raises:
        BankError: There is no such method, or the words do not fit.
    """
    default = arguments(RunConfig.default(method_name))
    target = for_method(arguments, type(default.config.method))
    parsed = parse(target, words, prog=prog, description=description, default=default)
    named, recipe = parsed.config.data.data, parsed.recipe
    if named == default.config.data.data:
        if recipe is None:
            return parsed
        # Data that are not named are those of the recipe.
        named = recipe
    default = replace(default, config=RunConfig.default(method_name, named, recipe=recipe))
    return parse(target, words, prog=prog, description=description, default=default)
