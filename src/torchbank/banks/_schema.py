"""What a bank is declared to hold, and the check of what a push brings."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from torchbank.banks._doors import check_device, check_embeddings, check_metric, check_size, listed
from torchbank.errors import BankKeyError, BankTypeError, BankValueError

ROW_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Arguments of push, which a field may not shadow.
RESERVED = ("self", "embeddings", "step", "check", "keys")

FieldDeclaration = torch.dtype | tuple[torch.dtype, tuple[int, ...]]
"""``torch.int64``, or ``(torch.float32, (4,))`` for a field with a shape per row."""


@dataclass(frozen=True)
class Field:
    """One declared field: its dtype and its shape per row."""

    dtype: torch.dtype
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Schema:
    """Capacity, dim, metric, row dtype and fields of a bank.

    Raises:
        BankValueError: A size is not positive, the metric is unknown, a field name is taken or malformed.
        BankTypeError: A size, dtype or field declaration is of the wrong type.
    """

    capacity: int
    dim: int
    fields: Mapping[str, Field]
    metric: str
    dtype: torch.dtype

    def __post_init__(self) -> None:
        check_size("capacity", self.capacity)
        check_size("dim", self.dim)
        check_metric(self.metric)
        if self.dtype not in ROW_DTYPES:
            msg = f"dtype is {self.dtype}; rows are stored as torch.float32, torch.bfloat16 or torch.float16"
            raise BankTypeError(msg)

    def check_push(
        self, embeddings: Tensor, given: Mapping[str, Tensor], device: torch.device, inputs: tuple[str, ...]
    ) -> dict[str, Tensor]:
        """Check shapes, types and names of one push; values are checked later.

        Args:
            embeddings: What was given as embeddings.
            given: What was given by keyword.
            device: Where the bank lies.
            inputs: Keywords that the replacement rule takes and that are not stored.

        Returns:
            The fields in declared order and dtype, then the inputs, all detached.
        """
        check_embeddings(embeddings, self.dim, device)
        if given.keys() != self.fields.keys() or inputs:
            self._check_names(given, inputs)
        batch = embeddings.shape[0]
        columns = {name: _column(name, given[name], field, batch, device) for name, field in self.fields.items()}
        columns.update({name: _input(name, given[name], batch, device) for name in inputs if name not in columns})
        return columns

    def _check_names(self, given: Mapping[str, Tensor], inputs: tuple[str, ...]) -> None:
        expected = tuple(dict.fromkeys((*self.fields, *inputs)))
        missing = [name for name in expected if name not in given]
        if missing:
            msg = f"push needs {listed(missing)} as well; this bank takes {listed(expected)} with every push"
            raise BankKeyError(msg)
        unknown = [name for name in given if name not in expected]
        if unknown:
            takes = f"takes {listed(expected)}" if expected else "has no fields"
            msg = f"push got {listed(unknown)}; this bank {takes}; declare it with fields={{...}} at construction"
            raise BankKeyError(msg)


def parse_fields(declared: Mapping[str, FieldDeclaration] | None) -> dict[str, Field]:
    """Read a ``fields=`` argument.

    Raises:
        BankValueError: A name is reserved or not an identifier.
        BankTypeError: A declaration is neither a dtype nor ``(dtype, shape)``.
    """
    fields = {}
    for name, declaration in ({} if declared is None else declared).items():
        if not isinstance(name, str) or not name.isidentifier() or name in RESERVED:
            msg = f"a field cannot be named {name!r}; use an identifier other than {listed(RESERVED)}"
            raise BankValueError(msg)
        dtype, shape = declaration if isinstance(declaration, tuple | list) else (declaration, ())
        if not isinstance(dtype, torch.dtype) or not isinstance(shape, tuple | list):
            msg = f"field {name!r} is declared as {declaration!r}; give a dtype or (dtype, shape)"
            raise BankTypeError(msg)
        for size in shape:
            check_size(f"every size in the shape of field {name!r}", size)
        fields[name] = Field(dtype, tuple(shape))
    return fields


def _column(name: str, values: Tensor, field: Field, batch: int, device: torch.device) -> Tensor:
    if not isinstance(values, Tensor):
        msg = f"field {name!r} is a {type(values).__name__}; expected a tensor of {field.dtype}"
        raise BankTypeError(msg)
    if values.shape != (batch, *field.shape):
        msg = (
            f"field {name!r} has shape {tuple(values.shape)}; expected {(batch, *field.shape)}, "
            "one value for each row of embeddings"
        )
        raise BankValueError(msg)
    if values.dtype != field.dtype:
        if not torch.can_cast(values.dtype, field.dtype):
            msg = f"field {name!r} has dtype {values.dtype}, which {field.dtype} cannot hold; convert it first"
            raise BankTypeError(msg)
        values = values.to(field.dtype)
    check_device(f"field {name!r}", values, device)
    return values.detach()


def _input(name: str, values: Tensor, batch: int, device: torch.device) -> Tensor:
    if not isinstance(values, Tensor):
        msg = f"{name} is a {type(values).__name__}; expected a tensor with one value for each row of embeddings"
        raise BankTypeError(msg)
    if values.ndim == 0 or values.shape[0] != batch:
        msg = f"{name} has shape {tuple(values.shape)}; expected ({batch},), one value for each row of embeddings"
        raise BankValueError(msg)
    check_device(name, values, device)
    return values.detach()
