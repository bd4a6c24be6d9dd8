"""What the settings of a method promise, checked where they are built."""

import warnings
from typing import Any

from torchbank.errors import BankValueError


def check_numbers(config: Any, *, above_zero: tuple[str, ...] = (), not_negative: tuple[str, ...] = ()) -> None:
    """Raise unless the named settings are in range; None, where a setting may be None, is.

    Raises:
        BankValueError: One is not.
    """
    for name in above_zero:
        value = getattr(config, name)
        if value is not None and not value > 0:
            msg = f"{name} is {value}; expected a number above 0"
            raise BankValueError(msg)
    for name in not_negative:
        value = getattr(config, name)
        if value is not None and not value >= 0:
            msg = f"{name} is {value}; expected 0 or more"
            raise BankValueError(msg)


def rows_of(capacity: int | float, dataset_size: int | None) -> int:
    """A capacity in rows: an int counts them, a float is a share of the data set.

    Raises:
        BankValueError: It is a share of a data set whose size is not given.
    """
    if isinstance(capacity, int):
        return capacity
    return max(1, round(capacity * known(dataset_size, f"capacity={capacity} is a share")))


def known(dataset_size: int | None, why: str) -> int:
    """The size of the data set.

    Raises:
        BankValueError: It is not given.
    """
    if dataset_size is None:
        msg = f"{why}, so dataset_size is needed; give the number of training images"
        raise BankValueError(msg)
    return dataset_size


def queue_rows(capacity: int | float, dataset_size: int | None) -> int:
    """`rows_of` a queue; warns, once a method, where it outlasts a pass over the data.

    Raises:
        BankValueError: The capacity is a share of a data set whose size is not given.
    """
    rows = rows_of(capacity, dataset_size)
    if dataset_size is not None and rows > dataset_size:
        warnings.warn(
            f"the bank holds {rows:,} rows and the data set {dataset_size:,} instances: it keeps old copies of "
            "every instance; a smaller capacity keeps the newest rows only",
            UserWarning,
            stacklevel=3,
        )
    return rows
