"""What the room checks at its doors: numbers, and embeddings from any tracker."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from torchbank.errors import BankTypeError, BankValueError


def check_fraction(what: str, value: float, *, top: float = 1.0) -> None:
    """Raise unless ``value`` lies between 0 and ``top``."""
    if not 0 <= value <= top:
        msg = f"{what} is {value}; expected 0 to {top:g}"
        raise BankValueError(msg)


def as_matrix(embeddings: np.ndarray | Tensor | Sequence[Sequence[float]], dim: int | None = None) -> np.ndarray:
    """Embeddings as a float32 array, whatever their values.

    Args:
        embeddings: ``(dim,)`` or ``(rows, dim)``, floating, on any device.
        dim: How long they must be; None for any length.

    Returns:
        ``(rows, dim)`` float32.

    Raises:
        BankTypeError: They are not floating.
        BankValueError: They are not of that shape.
    """
    values = embeddings.detach().cpu().float().numpy() if isinstance(embeddings, Tensor) else np.asarray(embeddings)
    if isinstance(embeddings, Tensor) and not embeddings.is_floating_point():
        msg = f"embeddings have dtype {embeddings.dtype}; expected a floating dtype, convert with .float()"
        raise BankTypeError(msg)
    if values.dtype.kind != "f":
        msg = f"embeddings have dtype {values.dtype}; expected a floating dtype, convert with .astype('float32')"
        raise BankTypeError(msg)
    rows = values[None] if values.ndim == 1 else values
    if rows.ndim != 2 or (dim is not None and rows.shape[1] != dim):
        wanted = "dim" if dim is None else dim
        msg = (
            f"embeddings have shape {values.shape}; expected (rows, {wanted}). Did another embedder make them than "
            "those that are remembered?"
        )
        raise BankValueError(msg)
    return np.ascontiguousarray(rows, dtype=np.float32)


def as_embeddings(embeddings: np.ndarray | Tensor, dim: int) -> np.ndarray:
    """Embeddings that may be compared and stored: finite, with a direction.

    Returns:
        ``(rows, dim)`` float32.

    Raises:
        BankTypeError: They are not floating.
        BankValueError: They are of the wrong shape, or a row is not finite or zero.
    """
    rows = as_matrix(embeddings, dim)
    bad = ~usable(rows)
    if bad.any():
        row = int(bad.argmax())
        kind = "all zeros" if np.isfinite(rows[row]).all() else "not finite"
        msg = f"row {row} of embeddings is {kind}; leave it out, nothing was changed"
        raise BankValueError(msg)
    return rows


def usable(rows: np.ndarray) -> np.ndarray:
    """``(rows,)`` bool: which embeddings are evidence, that is finite and not zero."""
    # One pass: a sum of squares is finite and positive only for such a row, unless it overflows or underflows.
    with np.errstate(over="ignore", invalid="ignore"):
        energy = np.einsum("nd,nd->n", rows, rows)
    sure = np.isfinite(energy) & (energy > 0)
    if sure.all():
        return sure
    return np.logical_and(np.isfinite(rows).all(axis=1), rows.any(axis=1))


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; rows that are not `usable` stay as they are."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
        scaled = rows / np.where(np.isfinite(largest) & (largest > 0), largest, 1)
        norms = np.sqrt(np.einsum("nd,nd->n", scaled, scaled))[:, None]
    return scaled / np.where(np.isfinite(norms) & (norms > 0), norms, 1)


def as_identities(identity: int | Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """One identity for each row.

    Raises:
        BankValueError: There are neither one nor ``count``.
    """
    owners = np.asarray(identity)
    if owners.dtype.kind not in "iu":
        msg = f"identities have dtype {owners.dtype}; expected integers"
        raise BankTypeError(msg)
    if owners.ndim == 0:
        return np.full(count, owners, dtype=np.int64)
    if owners.shape != (count,):
        msg = f"identities have shape {owners.shape}; expected one number, or ({count},), one for each embedding"
        raise BankValueError(msg)
    return owners.astype(np.int64)


def as_integers(what: str, values: Sequence[float] | np.ndarray | Tensor, count: int | None = None) -> np.ndarray:
    """A column of integers, also where a tracker gives them as floats.

    Returns:
        ``(rows,)`` int64.

    Raises:
        BankValueError: The shape does not fit, or a value is not a whole number.
    """
    column = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if column.size == 0:
        column = column.reshape(-1).astype(np.int64)
    if column.ndim != 1 or (count is not None and len(column) != count):
        msg = f"{what} have shape {column.shape}; expected ({'rows' if count is None else count},), one for each box"
        raise BankValueError(msg)
    if column.dtype.kind == "f" and np.isfinite(column).all() and (column == np.rint(column)).all():
        column = column.astype(np.int64)
    if column.dtype.kind not in "iu":
        msg = f"{what} are {column.dtype}; expected whole numbers"
        raise BankValueError(msg)
    return column.astype(np.int64)


def as_scores(scores: Sequence[float] | np.ndarray | None, count: int) -> np.ndarray:
    """One score for each embedding, 1 where there are none.

    Returns:
        ``(rows,)`` float32.

    Raises:
        BankValueError: There are not ``count``.
    """
    if scores is None:
        return np.ones(count, dtype=np.float32)
    given = np.asarray(scores, dtype=np.float32)
    if given.shape != (count,):
        msg = f"scores have shape {given.shape}; expected ({count},), one for each embedding"
        raise BankValueError(msg)
    return given
