"""Rules: small objects without state, known by name so that a file can tell which ones a memory had."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from torchbank.errors import BankTypeError, BankValueError, FileFormatError

R = TypeVar("R", bound="Rule")


class Rule:
    """Base of every rule of a temporal memory; a rule is a frozen dataclass of plain values.

    What a rule has to remember stands in the `Ledger` of the memory, so that one rule may serve many memories.
    """

    registry: ClassVar[dict[str, type["Rule"]]] = {}
    """Every rule by name, so that a file can name it; a rule of your own must be defined before its file is read."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        known = Rule.registry.get(cls.__name__, cls)
        # Only ours are kept: a class of a user's own may be defined again, as a notebook cell does.
        if known.__module__.startswith("torchbank.") and known.__module__ != cls.__module__:
            msg = f"torchbank has a rule named {cls.__name__!r}; give this one a name of its own, which files bear"
            raise BankValueError(msg)
        Rule.registry[cls.__name__] = cls

    def check_capacity(self, capacity: int) -> None:
        """Raise if the rule cannot serve streams of so many rows; by default it can."""


def describe_rule(rule: Rule) -> dict[str, Any]:
    """The name of a rule and its values, as JSON can hold them."""
    values = dataclasses.asdict(rule) if dataclasses.is_dataclass(rule) else {}  # pyrefly: ignore
    return {"rule": type(rule).__name__, **values}


def build_rule(described: Mapping[str, Any]) -> Any:
    """The rule that `describe_rule` described.

    Raises:
        FileFormatError: There is no rule of that name, or it does not take these values.
    """
    values = dict(described)
    name = values.pop("rule", None)
    if name not in Rule.registry:
        msg = f"the file names the rule {name!r}, which is not defined here; import the module that defines it"
        raise FileFormatError(msg)
    try:
        return Rule.registry[name](**values)
    except TypeError as error:
        msg = f"the file has values {values} for the rule {name!r}, which it does not take"
        raise FileFormatError(msg) from error


def check_rule(what: str, rule: object, kind: type[R]) -> R:
    """The rule, if it is one of its kind.

    Raises:
        BankTypeError: It is something else, such as the class instead of an object of it.
    """
    if not isinstance(rule, kind):
        given = f"the class {rule.__name__}" if isinstance(rule, type) else repr(rule)
        msg = f"{what} is {given}; expected a {kind.__name__} such as video.{_example(kind)}"
        raise BankTypeError(msg)
    return rule


def _example(kind: type[Rule]) -> str:
    names = [name for name, rule in Rule.registry.items() if issubclass(rule, kind) and rule is not kind]
    return f"{names[0]}(...)" if names else kind.__name__
