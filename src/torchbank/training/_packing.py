"""A nested state as tensors and JSON, the only two things that a checkpoint may hold.

State dictionaries of optimisers, schedules and random generators mix tensors with numbers, tuples and integer
keys. Pickle would keep all of that and would run code on loading; this keeps it and does not.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchbank.errors import BankTypeError, FileFormatError

_PLAIN = (bool, int, float, str, type(None))


def pack(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Split a nested state into its tensors and a JSON form that says where they go.

    Args:
        state: Dictionaries (keys are strings or integers), lists and tuples, nested, of tensors, NumPy arrays
            and plain values.

    Returns:
        The tensors by a name that tells their place, and a form of dictionaries, lists and plain values.

    Raises:
        BankTypeError: The state holds something else.

    Example:
        >>> import torch
        >>> from torchbank.training import pack, unpack
        >>> tensors, form = pack({"step": 3, "betas": (0.9, 0.99), 7: {"mean": torch.ones(2)}})
        >>> list(tensors)
        ['7.mean']
        >>> unpack(tensors, form)
        {'step': 3, 'betas': (0.9, 0.99), 7: {'mean': tensor([1., 1.])}}
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _pack(state, "", tensors)


def _pack(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Tensor | np.ndarray):
        name = place if place not in tensors else f"{place}#{len(tensors)}"
        tensors[name] = value.detach() if isinstance(value, Tensor) else torch.from_numpy(value)
        return {"kind": "tensor" if isinstance(value, Tensor) else "array", "name": name}
    inside = f"{place}." if place else ""
    if isinstance(value, dict):
        return {
            "kind": "dict",
            "items": [[key, _pack(item, f"{inside}{key}", tensors)] for key, item in value.items()],
        }
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {"kind": kind, "items": [_pack(item, f"{inside}{i}", tensors) for i, item in enumerate(value)]}
    msg = (
        f"the state holds a {type(value).__name__} at {place!r}; a checkpoint keeps tensors, "
        "numbers, strings and containers of them"
    )
    raise BankTypeError(msg)


def unpack(tensors: dict[str, Tensor], form: Any) -> Any:
    """Put a packed state together again; see `pack`.

    Args:
        tensors: The tensors by name.
        form: The JSON form.

    Returns:
        The nested state.

    Raises:
        FileFormatError: A tensor is missing.
    """
    if not isinstance(form, dict):
        return form
    kind, items = form["kind"], form.get("items", [])
    if kind in ("tensor", "array"):
        if form["name"] not in tensors:
            msg = f"the checkpoint has no tensor {form['name']!r}; it was not written by this torchbank"
            raise FileFormatError(msg)
        tensor = tensors[form["name"]]
        return tensor if kind == "tensor" else tensor.numpy()
    if kind == "dict":
        return {key: unpack(tensors, item) for key, item in items}
    values = [unpack(tensors, item) for item in items]
    return values if kind == "list" else tuple(values)
