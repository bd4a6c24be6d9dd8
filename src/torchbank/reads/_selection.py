"""Which rows a read sees: the row selection shared by the three reads.

Axes: batch (queries), rows (rows of the bank), columns (rows of one block).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from torchbank.errors import BankValueError

Match = tuple[Tensor, Tensor]
"""Query values (batch,) and row values (rows,): they agree where equal."""

Clause = tuple[Match, ...]
"""A conjunction: it holds for a query and a row where all of its matches agree."""


@dataclass(frozen=True)
class Selection:
    """The rows that a read sees, per query.

    Args:
        exclude: Leave out a row for a query where any of these clauses holds.
        include: Keep only the rows for which any of these clauses holds; none keeps all.
        bias: ``(rows,)`` floating. Added to the scaled score by `attend`, to the score by `nearest`;
            `pair_sum` weighs a row by ``exp(bias)``. -inf removes the row.
        count: 0-d int64. Only the first ``count`` rows are real.
        offloaded: The rows, and the row values of clauses, may lie in host memory; they are copied to the
            queries' device a block at a time.
    """

    exclude: tuple[Clause, ...] = ()
    include: tuple[Clause, ...] = ()
    bias: Tensor | None = None
    count: Tensor | None = None
    offloaded: bool = False

    def check(self, batch: int, rows: int) -> None:
        """Raise unless every tensor fits ``batch`` queries and ``rows`` rows.

        Raises:
            BankValueError: A tensor has another length, or a clause is empty.
        """
        for word, clauses in (("exclude", self.exclude), ("include", self.include)):
            for clause in clauses:
                if not clause:
                    msg = f"{word} holds an empty clause, which would match every row; drop it or name a field"
                    raise BankValueError(msg)
                for query_values, row_values in clause:
                    if query_values.shape != (batch,) or row_values.shape != (rows,):
                        msg = (
                            f"{word} compares values of shape {tuple(query_values.shape)} with row values of shape "
                            f"{tuple(row_values.shape)}; expected ({batch},) for the queries and ({rows},) for the rows"
                        )
                        raise BankValueError(msg)
        if self.bias is not None and self.bias.shape != (rows,):
            msg = f"bias has shape {tuple(self.bias.shape)}; expected one value a row, ({rows},)"
            raise BankValueError(msg)

    def of(self, queries: Int64[Tensor, " picked"]) -> "Selection":
        """The same for some of the queries only."""
        exclude, include = (
            tuple(tuple((values[queries], rows) for values, rows in clause) for clause in clauses)
            for clauses in (self.exclude, self.include)
        )
        return replace(self, exclude=exclude, include=include)

    def flat(self) -> "FlatSelection":
        """The same selection as flat lists, which an operator schema can hold."""
        return FlatSelection(
            self.count,
            self.bias,
            *_flatten(self.exclude),
            *_flatten(self.include),
            self.offloaded,
        )


SCHEMA = (
    "Tensor? count, Tensor? bias, Tensor[] exclude_queries, Tensor[] exclude_rows, int[] exclude_sizes, "
    "Tensor[] include_queries, Tensor[] include_rows, int[] include_sizes, "
    "bool offloaded"
)
"""A `FlatSelection` in an operator's schema."""

FlatClauses = tuple[list[Tensor], list[Tensor], list[int]]


@dataclass(frozen=True)
class FlatSelection:
    """A `Selection` spelt with tensors, lists of tensors and lists of integers only."""

    count: Tensor | None
    bias: Tensor | None
    exclude_queries: list[Tensor]
    exclude_rows: list[Tensor]
    exclude_sizes: list[int]
    include_queries: list[Tensor]
    include_rows: list[Tensor]
    include_sizes: list[int]
    offloaded: bool

    def arguments(self) -> tuple:
        """The fields in the order in which the operators take them."""
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)

    def selection(self) -> Selection:
        """Back to the nested form."""
        return Selection(
            exclude=_nest(self.exclude_queries, self.exclude_rows, self.exclude_sizes),
            include=_nest(self.include_queries, self.include_rows, self.include_sizes),
            bias=self.bias,
            count=self.count,
            offloaded=self.offloaded,
        )


def _flatten(clauses: Sequence[Clause]) -> FlatClauses:
    matches = [match for clause in clauses for match in clause]
    return [query for query, _ in matches], [row for _, row in matches], [len(clause) for clause in clauses]


def _nest(queries: list[Tensor], rows: list[Tensor], sizes: list[int]) -> tuple[Clause, ...]:
    matches = iter(zip(queries, rows, strict=True))
    return tuple(tuple(next(matches) for _ in range(size)) for size in sizes)


def agreement(clauses: Sequence[Clause]) -> Bool[Tensor, "batch rows"]:
    """Where any clause holds, as a full mask."""
    mask = _all_agree(clauses[0])
    for clause in clauses[1:]:
        mask |= _all_agree(clause)
    return mask


def _all_agree(clause: Clause) -> Bool[Tensor, "batch rows"]:
    mask = clause[0][0][:, None] == clause[0][1][None, :]
    for query_values, row_values in clause[1:]:
        mask &= query_values[:, None] == row_values[None, :]
    return mask


def kept_mask(selection: Selection, scores: Float[Tensor, "batch rows"]) -> Bool[Tensor, "batch rows"]:
    """The whole selection as one mask: the plain form, for the reference implementation."""
    kept = torch.ones_like(scores, dtype=torch.bool)
    if selection.exclude:
        kept &= ~agreement(selection.exclude)
    if selection.include:
        kept &= agreement(selection.include)
    if selection.bias is not None:
        kept &= (selection.bias != -torch.inf)[None, :]
    if selection.count is not None:
        kept &= (torch.arange(scores.shape[1], device=scores.device) < selection.count)[None, :]
    return kept


def real_rows(rows: Float[Tensor, "rows dim"], selection: Selection) -> tuple[Tensor, Selection]:
    """Apply ``count``: by bias where reading it would wait for the device, else by slicing.

    Rows on the host are sliced as well: one wait a read is less than the copies of rows that are not real.
    """
    count = selection.count
    if count is None:
        return rows, selection
    if rows.device.type != "cpu":
        missing = torch.arange(rows.shape[0], device=rows.device) >= count
        bias = torch.zeros(rows.shape[0], device=rows.device) if selection.bias is None else selection.bias
        return rows, replace(selection, bias=bias.masked_fill(missing, -torch.inf), count=None)
    real = slice(0, min(int(count), rows.shape[0]))
    return rows[real], replace(
        selection,
        exclude=_slice_clauses(selection.exclude, real),
        include=_slice_clauses(selection.include, real),
        bias=None if selection.bias is None else selection.bias[real],
        count=None,
    )


def brought(
    rows: Float[Tensor, "rows dim"], selection: Selection, device: torch.device
) -> tuple[Float[Tensor, "rows dim"], Selection]:
    """Rows and clauses as a whole on the queries' device, for the reference implementation."""
    if rows.device == device:
        return rows, selection
    exclude, include = (
        tuple(tuple((query, row.to(device)) for query, row in clause) for clause in clauses)
        for clauses in (selection.exclude, selection.include)
    )
    return rows.to(device), replace(selection, exclude=exclude, include=include)


def _slice_clauses(clauses: tuple[Clause, ...], columns: slice | Tensor) -> tuple[Clause, ...]:
    return tuple(tuple((query, row[columns]) for query, row in clause) for clause in clauses)
