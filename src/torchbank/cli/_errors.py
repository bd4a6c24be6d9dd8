"""The one place where an error becomes a line on stderr and an exit code."""

import sys
from collections.abc import Callable

from torchbank.errors import BankError, BankValueError

USER_ERROR = 2
INTERRUPTED = 130
# What a command may import on demand; anything else that is missing is our fault and keeps its traceback.
_OPTIONAL = (
    "accelerate",
    "kornia",
    "PIL",
    "scipy",
    "tensorboard",
    "matplotlib",
    "tyro",
    "rich",
    "timm",
    "transformers",
)


class UsageError(BankValueError):
    """The command line does not parse."""


def exit_code(command: Callable[[], None]) -> int:
    """Run a command; an error that its user caused becomes one line, without a traceback.

    Args:
        command: What to run.

    Returns:
        0; 2 after an error of the user; 130 after Ctrl-C.

    Raises:
        ModuleNotFoundError: A package is missing that no extra would bring.
    """
    try:
        command()
    except BankError as error:
        return _say(str(error), USER_ERROR)
    except OSError as error:
        return _say(f"{error.filename}: {error.strerror}" if error.filename else str(error), USER_ERROR)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _OPTIONAL:
            raise
        return _say(f"{package} is not installed; pip install 'torchbank[train]' or {package} itself", USER_ERROR)
    except KeyboardInterrupt:
        return _say("stopped; a run goes on from its last checkpoint with --resume", INTERRUPTED)
    return 0


def _say(message: str, code: int) -> int:
    print(f"torchbank: error: {' '.join(message.split())}", file=sys.stderr)
    return code
