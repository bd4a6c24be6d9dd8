"""Command lines from dataclasses, by tyro."""

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import field, fields, make_dataclass
from functools import cache
from typing import Any, Literal

from torchbank.cli._errors import UsageError


def for_method(generic: Any, method_config: type) -> Any:
    """A generic dataclass of arguments with the settings of one method in it."""
    return generic[method_config]


@cache
def without_seed(method_config: type) -> type:
    """The settings of a method, but that the command line does not offer their seed: the run's seed is enough."""
    import tyro

    if all(setting.name != "seed" for setting in fields(method_config)):
        return method_config
    seed = [("seed", tyro.conf.Suppress[int], field(default=0))]
    origin = {"__doc__": method_config.__doc__, "__module__": method_config.__module__}
    return make_dataclass(method_config.__name__, seed, bases=(method_config,), namespace=origin, frozen=True)


def parse(
    target: Any,
    words: Sequence[str],
    *,
    prog: str,
    description: str = "",
    default: Any = None,
    booleans: Literal["flags", "words"] = "flags",
) -> Any:
    """Make a dataclass of what a command line says.

    Args:
        target: The dataclass.
        words: The command line.
        prog: What the help calls the command.
        description: The head of the help.
        default: An instance that gives the defaults; None takes those of the class.
        booleans: Whether they are written ``--resume`` or ``--resume True``.

    Returns:
        The instance.

    Raises:
        UsageError: The words do not fit.
        SystemExit: The help was asked for and has been printed.
    """
    import tyro

    spelling = (tyro.conf.FlagConversionOff,) if booleans == "words" else ()
    markers = (tyro.conf.OmitArgPrefixes, *spelling)
    options = {} if default is None else {"default": default}
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(target, args=words, prog=prog, description=description, config=markers, **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        msg = f"{_first_paragraph(complaint.getvalue())} (see {prog} --help)"
        raise UsageError(msg) from None


def _first_paragraph(box: str) -> str:
    """What tyro's error box says first: the lines between its upper border and its first rule."""
    words: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip("│| ")
        if not text.strip("─-╰╯+"):
            break
        words.append(text)
    # Where a dataclass refused its values, its message stands alone.
    return re.sub(r"^Error parsing config\.\w+: ", "", " ".join(words)).removesuffix(".")
