"""One family of exceptions.

Every error a user can cause is a `BankError` and also the built-in exception a Python user expects, so both
`except tb.errors.BankError` and `except ValueError` work. Messages say what was given, what was expected and
what to do.
"""

__all__ = [
    "BankError",
    "BankFileError",
    "BankFileExistsError",
    "BankFileNotFoundError",
    "BankKeyError",
    "BankStateError",
    "BankTypeError",
    "BankValueError",
    "FileFormatError",
]


class BankError(Exception):
    """Base of every error that torchbank raises on purpose."""


class BankValueError(BankError, ValueError):
    """A value is out of range, of the wrong shape or not finite."""


class BankTypeError(BankError, TypeError):
    """A tensor or argument has the wrong dtype or type."""


class BankKeyError(BankError, KeyError):
    """A field, key, name or state entry is missing or unknown."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument; a sentence should read as a sentence.
        return str(self.args[0]) if self.args else ""


class BankStateError(BankError, RuntimeError):
    """The operation does not fit the present state (double backward, a bank overwritten by DDP)."""


class BankFileNotFoundError(BankError, FileNotFoundError):
    """There is no such file, or no folder to write it into."""


class BankFileExistsError(BankError, FileExistsError):
    """There is a file already, which is not overwritten."""


class BankFileError(BankError, OSError):
    """The system refuses a file: no space, no permission."""


class FileFormatError(BankError, ValueError):
    """A file is truncated, foreign or of a version that this torchbank does not read."""


def check_choice(word: str, given: str, *choices: str) -> None:
    """Raise unless a word is one of its choices.

    Args:
        word: The argument's name.
        given: What was given.
        *choices: What is known.

    Raises:
        BankValueError: ``given`` is not among ``choices``.
    """
    if given not in choices:
        msg = f"{word}={given!r} is unknown; choose one of {', '.join(map(repr, choices))}"
        raise BankValueError(msg)
