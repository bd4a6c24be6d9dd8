"""Command lines from dataclasses, by tyro."""

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import field, fields, make_dataclass
from functools import cache
from typing import Annotated, Any, Literal

from torchbank.cli._errors import UsageError


def for_method(generic: Any, method_config: type) -> Any:
    """A generic dataclass of arguments with the settings of one method in it."""
    return generic[method_config]


# Short names that the command line has for settings beside their own.
_ALIASES = {"start_step": "--start"}


@cache
def as_offered(method_config: type) -> type:
    """The settings of a method as the command line offers them: without a seed, for that of the run is enough."""
    import tyro

    offered: list[tuple[str, Any, Any]] = []
    for setting in fields(method_config):
        if setting.name == "seed":
            offered.append(("seed", tyro.conf.Suppress[int], field(default=0)))
        elif setting.name in _ALIASES:
            alias = tyro.conf.arg(aliases=(_ALIASES[setting.name],))
            kind: Any = setting.type
            offered.append((setting.name, Annotated[kind, alias], field(default=setting.default)))
    if not offered:
        return method_config
    origin = {"__doc__": method_config.__doc__, "__module__": method_config.__module__}
    return make_dataclass(method_config.__name__, offered, bases=(method_config,), namespace=origin, frozen=True)


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
