"""What a loss compares queries with: a bank, or the batch itself behind the same reads.

A loss is written once, against `RowSource`. A bank's rows are constants and stream through the read; the
batch is small and learns on both sides, so `BatchRows` uses the plain differentiable form.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypedDict, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchbank import reads
from torchbank.errors import BankValueError

FieldValues = dict[str, Tensor]
Clauses = FieldValues | Sequence[FieldValues] | None


class RowSelection(TypedDict, total=False):
    """The keywords that choose a loss's rows; the same as those of a bank's reads.

    Attributes:
        exclude: ``{"id": ids}`` leaves out, for query i, rows whose field equals ``ids[i]``. All fields of a
            dict must agree; of a list of dicts, any.
        include: Keeps only such rows.
        max_age: Leaves out rows older than this many steps, a number or a 0-d tensor that follows the training.
        half_life: Weighs a row by half for every so many steps of age.
        bias: ``(rows,)``, a log-weight a row; -inf removes it.
        step: What "now" is for ages; the bank's own count if None.
    """

    exclude: Clauses
    include: Clauses
    max_age: int | float | Tensor | None
    half_life: float | None
    bias: Tensor | None
    step: int | Tensor | None


@runtime_checkable
class RowSource(Protocol):
    """Anything with a metric and the reads of a bank: `MemoryBank`, `Rows`, a sharded bank."""

    metric: str

    def attend(self, queries: Tensor, *more: Any, **keywords: Any) -> reads.Readout:
        """The log-sum-exp of the selected rows, with ``scale=`` and the row selection."""
        ...

    def pair_sum(self, queries: Tensor, f: reads.PairFunction, *more: Any, **keywords: Any) -> reads.PairSum:
        """The sum of ``f`` over the selected rows, with the row selection."""
        ...

    def nearest(self, queries: Tensor, k: int, *more: Any, **keywords: Any) -> reads.Neighbors:
        """The ``k`` best of the selected rows, with the row selection."""
        ...

    def triplet_sum(self, queries: Tensor, *more: Any, **keywords: Any) -> reads.PairSum:
        """The sum of triplet hinges, with ``labels=``, ``margin=``, ``mining=`` and the row selection."""
        ...


@runtime_checkable
class SlotSource(RowSource, Protocol):
    """A source of which some rows can be read alone, by slot: `MemoryBank`, `Rows`."""

    def subset(self, slots: Tensor) -> RowSource:
        """A copy of the rows at ``slots`` ``(rows,)``, with the same reads."""
        ...


class BatchRows:
    """The rows of the batch itself, as a source: row i is query i's own and is left out for it.

    A field of a row is the value given for the query of the same position, so ``exclude`` and ``include`` may
    name any field. Rows of the batch have age 0: ``max_age``, ``half_life`` and ``step`` change nothing.

    Rows and queries may come in several views, one view after another: query i of each is then one instance, and
    all of its rows are left out for it.

    Args:
        rows: The embeddings of the batch, or of ``views`` views of it.
        metric: How they are compared.
        views: Of the rows.
    """

    def __init__(self, rows: Float[Tensor, "rows dim"], metric: str = "cosine", *, views: int = 1) -> None:
        self.metric = metric
        self._rows = as_compared(rows, metric)
        self._views = views

    def attend(
        self,
        queries: Tensor,
        *,
        scale: float | Tensor,
        precision: reads.Precision = "exact",  # noqa: ARG002
        **selection: Any,
    ) -> reads.Readout:
        """See `RowSource`; the plain form is always exact."""
        chosen = self._selection(len(queries), **selection)
        queries = as_compared(queries, self.metric)
        return reads.attend(queries, self._rows, scale=scale, selection=chosen, impl="reference")

    def pair_sum(self, queries: Tensor, f: reads.PairFunction, **selection: Any) -> reads.PairSum:
        """See `RowSource`."""
        chosen = self._selection(len(queries), **selection)
        queries = as_compared(queries, self.metric)
        return reads.pair_sum(queries, self._rows, f, selection=chosen, impl="reference")

    def nearest(self, queries: Tensor, k: int, **selection: Any) -> reads.Neighbors:
        """See `RowSource`."""
        chosen = self._selection(len(queries), **selection)
        queries = as_compared(queries, self.metric)
        return reads.nearest(queries, self._rows, k, selection=chosen, impl="reference")

    def triplet_sum(
        self, queries: Tensor, *, labels: Tensor, margin: float, mining: reads.Mining, **selection: Any
    ) -> reads.PairSum:
        """See `RowSource`."""
        chosen = self._selection(len(queries), **selection)
        queries, match = as_compared(queries, self.metric), self._with_itself(labels)
        return reads.triplet_sum(
            queries, self._rows, labels=match, margin=margin, mining=mining, selection=chosen, impl="reference"
        )

    def _selection(
        self,
        queries: int,
        *,
        exclude: Clauses = None,
        include: Clauses = None,
        bias: Tensor | None = None,
        max_age: object = None,  # noqa: ARG002
        half_life: object = None,  # noqa: ARG002
        step: object = None,  # noqa: ARG002
    ) -> reads.Selection:
        batch = self._rows.shape[0] // self._views
        position = torch.arange(queries, device=self._rows.device) % max(1, batch)
        return reads.Selection(
            exclude=((self._with_itself(position),), *self._clauses(exclude)),
            include=self._clauses(include),
            bias=bias,
        )

    def _clauses(self, clauses: Clauses) -> tuple[reads.Clause, ...]:
        return tuple(tuple(map(self._with_itself, clause.values())) for clause in any_of(clauses))

    def _with_itself(self, values: Tensor) -> reads.Match:
        """The values of the queries, and of each view of the rows."""
        return values, values[: self._rows.shape[0] // self._views].repeat(self._views)


def any_of(clauses: Clauses) -> list[FieldValues]:
    """The list that a dict, a list of dicts or None stands for."""
    if clauses is None:
        return []
    return [clauses] if isinstance(clauses, dict) else list(clauses)


def excluding(selection: RowSelection, **fields: Tensor | None) -> RowSelection:
    """The selection without the rows that agree in any of ``fields``."""
    more = [{name: values} for name, values in fields.items() if values is not None]
    clauses = any_of(selection.get("exclude")) + more
    return {**selection, "exclude": clauses} if clauses else selection


def only_label(selection: RowSelection, labels: Tensor) -> RowSelection:
    """The selection of rows with the query's own label.

    Raises:
        BankValueError: ``include`` compares labels already.
    """
    clauses = any_of(selection.get("include")) or [{}]
    check_label_is_free(selection)
    return {**selection, "include": [{**clause, "label": labels} for clause in clauses]}


def check_label_is_free(selection: RowSelection) -> None:
    """Raise unless the loss alone compares labels.

    Raises:
        BankValueError: ``include`` compares labels already.
    """
    if any("label" in clause for clause in any_of(selection.get("include"))):
        msg = "include names the field 'label', which the loss itself compares; drop it there"
        raise BankValueError(msg)


def at_slots(selection: RowSelection, slots: Tensor) -> RowSelection:
    """The selection for the rows at ``slots`` alone: a bias is cut to theirs."""
    bias = selection.get("bias")
    return selection if bias is None else {**selection, "bias": bias[slots]}


def as_compared(embeddings: Float[Tensor, "batch dim"], metric: str) -> Float[Tensor, "batch dim"]:
    """On the unit sphere for cosine, else as they are."""
    return nn.functional.normalize(embeddings, dim=1) if metric == "cosine" else embeddings
