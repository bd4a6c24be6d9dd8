"""The three reads as methods: row selection in a user's words, turned into tensors for `torchbank.reads`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torchbank import reads
from torchbank.banks._doors import check_embeddings
from torchbank.errors import BankKeyError, BankTypeError, BankValueError
from torchbank.reads import Clause, MappedRows, Neighbors, PairFunction, PairSum, Readout, Selection

FieldMatch = Mapping[str, Tensor]
"""Field names with one value for each query: all of them agree."""

Condition = FieldMatch | Sequence[FieldMatch]
"""A dict, or several of which any holds."""


class Table(NamedTuple):
    """The rows that a read passes over.

    Attributes:
        embeddings: ``(rows, dim)``.
        fields: What is stored beside each row, by name.
        steps: ``(rows,)`` int64 stamps, or None where rows have no age.
        clock: 0-d int64, the present by default.
        count: 0-d int64, how many of the rows are real, if they are the first; None is all of them.
        valid: ``(rows,)`` bool, which rows are real, if they may lie anywhere; None is all of them.
        home: Where queries must be, if the rows are offloaded to the host; None is where the rows lie.
        mapping: The mapped file that the columns lie in, if they do.
        part: Which of all rows these are, where the others lie elsewhere: a given bias is one for all.
        reads: What reads the rows: the functions of `torchbank.reads`, or others in their place.
    """

    embeddings: Tensor
    fields: Mapping[str, Tensor]
    steps: Tensor | None = None
    clock: Tensor | None = None
    count: Tensor | None = None
    valid: Tensor | None = None
    home: torch.device | None = None
    mapping: MappedRows | None = None
    part: slice | Tensor | None = None
    reads: "Reads" = reads


class Reads(Protocol):
    """The functions of `torchbank.reads` that a table is read by."""

    attend: Callable[..., Readout]
    nearest: Callable[..., Neighbors]
    pair_sum: Callable[..., PairSum]
    triplet_sum: Callable[..., PairSum]


class Reading(ABC):
    """What can be read: a bank, or plain tensors in the place of one.

    All reads take the same row selection:

    - ``exclude={"id": ids}`` leaves out, for query i, the rows whose field equals ``ids[i]``;
      ``include={"label": labels}`` keeps only those. A dict means that all of its fields agree, a list of dicts
      that any of them does.
    - ``max_age=`` leaves out rows older than so many steps; ``half_life=`` adds ``-ln 2 * age / half_life`` to the
      bias of a row. Age is counted from ``step=``, by default from the latest stamp.
    - ``bias=`` ``(rows,)`` is added to the scaled score by `attend` and to the score by `nearest`; `pair_sum`
      and `triplet_sum` weigh a row by its exponential. -inf removes the row.
    """

    dim: int
    metric: str

    @abstractmethod
    def _table(self) -> Table:
        """The rows as they are now."""

    def attend(
        self,
        queries: Tensor,
        *,
        scale: float | Tensor,
        exclude: Condition | None = None,
        include: Condition | None = None,
        max_age: int | float | Tensor | None = None,
        half_life: float | None = None,
        bias: Tensor | None = None,
        step: int | Tensor | None = None,
        precision: reads.Precision = "exact",
        impl: reads.Impl = "auto",
    ) -> Readout:
        """The log-sum-exp of all scaled scores and the softmax-weighted mean of the rows.

        Args:
            queries: ``(batch, dim)``, any floating dtype, normalised here under cosine.
            scale: Inverse temperature: a number, or a 0-d tensor that learns.
            exclude: Rows to leave out, by field.
            include: The only rows to keep, by field.
            max_age: The oldest age that is read, a number or a 0-d tensor.
            half_life: The age at which a row counts half.
            bias: One value for each row of `view` or for each slot.
            step: Now, for ages.
            precision: See `torchbank.reads.attend`.
            impl: See `torchbank.reads.attend`.

        Returns:
            `Readout` of ``lse`` (batch,), differentiable in queries and scale, and ``readout`` (batch, dim). Of no
            rows: -inf and 0.

        Raises:
            BankValueError: A shape or device does not fit, or the metric is euclidean.
            BankTypeError: The queries are not floating.
            BankKeyError: A field that is compared is not there.
        """
        table = self._table()
        queries = self._queries(queries, table, "attend")
        selection = _selection(table, queries, exclude, include, _Ages(max_age, half_life, step), bias)
        return table.reads.attend(
            queries, table.embeddings, scale=scale, selection=selection, precision=precision, impl=impl
        )

    def nearest(
        self,
        queries: Tensor,
        k: int,
        *,
        exclude: Condition | None = None,
        include: Condition | None = None,
        max_age: int | float | Tensor | None = None,
        half_life: float | None = None,
        bias: Tensor | None = None,
        step: int | Tensor | None = None,
        impl: reads.Impl = "auto",
    ) -> Neighbors:
        """The k best rows of each query, exact, best first.

        Args:
            queries: ``(batch, dim)``, any floating dtype, normalised here under cosine.
            k: How many.
            exclude: Rows to leave out, by field.
            include: The only rows to keep, by field.
            max_age: The oldest age that is read, a number or a 0-d tensor.
            half_life: The age at which ``ln 2`` is taken off the score.
            bias: One value for each row of `view` or for each slot.
            step: Now, for ages.
            impl: See `torchbank.reads.nearest`.

        Returns:
            `Neighbors` of ``scores`` (inner products, or negative squared distances under euclidean), ``slots``
            and ``valid``, each (batch, k). Where fewer than k rows were selected: -inf, -1 and False.

        Raises:
            BankValueError: A shape or device does not fit.
            BankTypeError: The queries are not floating.
            BankKeyError: A field that is compared is not there.
        """
        table = self._table()
        queries = self._queries(queries, table)
        selection = _selection(table, queries, exclude, include, _Ages(max_age, half_life, step), bias)
        metric = "euclidean" if self.metric == "euclidean" else "dot"
        return table.reads.nearest(queries, table.embeddings, k, metric=metric, selection=selection, impl=impl)

    def pair_sum(
        self,
        queries: Tensor,
        f: PairFunction,
        *,
        labels: Tensor | None = None,
        exclude: Condition | None = None,
        include: Condition | None = None,
        max_age: int | float | Tensor | None = None,
        half_life: float | None = None,
        bias: Tensor | None = None,
        step: int | Tensor | None = None,
        impl: reads.Impl = "auto",
    ) -> PairSum:
        """The sum of a function of the score over the rows of each query.

        Args:
            queries: ``(batch, dim)``, any floating dtype, normalised here under cosine.
            f: The function with its derivative.
            labels: ``(batch,)``, compared with the field named ``label``, which tells f whether a pair is the same;
                None makes every pair different.
            exclude: Rows to leave out, by field.
            include: The only rows to keep, by field.
            max_age: The oldest age that is read, a number or a 0-d tensor.
            half_life: The age at which a row counts half.
            bias: One value for each row of `view` or for each slot.
            step: Now, for ages.
            impl: See `torchbank.reads.pair_sum`.

        Returns:
            `PairSum` of ``value`` (batch,), differentiable in queries, and ``count`` (batch,) of the active pairs.

        Raises:
            BankValueError: A shape or device does not fit, or the metric is euclidean.
            BankTypeError: The queries are not floating.
            BankKeyError: A field that is compared is not there.
        """
        table = self._table()
        queries = self._queries(queries, table, "pair_sum")
        selection = _selection(table, queries, exclude, include, _Ages(max_age, half_life, step), bias)
        match = None if labels is None else _clause("labels", {"label": labels}, table, queries)[0]
        return table.reads.pair_sum(queries, table.embeddings, f, labels=match, selection=selection, impl=impl)

    def triplet_sum(
        self,
        queries: Tensor,
        *,
        labels: Tensor,
        margin: float,
        mining: reads.Mining = "all",
        exclude: Condition | None = None,
        include: Condition | None = None,
        max_age: int | float | Tensor | None = None,
        half_life: float | None = None,
        bias: Tensor | None = None,
        step: int | Tensor | None = None,
        impl: reads.Impl = "auto",
    ) -> PairSum:
        """The sum of the hinges of each query with its positives and negatives. Waits for the device.

        Args:
            queries: ``(batch, dim)``, any floating dtype, normalised here under cosine.
            labels: ``(batch,)``, compared with the field named ``label``: rows that agree are positives.
            margin: How far a positive must be ahead of a negative.
            mining: Which triplets: ``"all"``, ``"semi-hard"`` or ``"hardest"``; see `torchbank.reads.triplet_sum`.
            exclude: Rows to leave out, by field.
            include: The only rows to keep, by field.
            max_age: The oldest age that is read, a number or a 0-d tensor.
            half_life: The age at which a row counts half.
            bias: One value for each row of `view` or for each slot.
            step: Now, for ages.
            impl: See `torchbank.reads.triplet_sum`.

        Returns:
            `PairSum` of ``value`` (batch,), differentiable in queries, and ``count`` (batch,) of the active triplets.

        Raises:
            BankValueError: A shape or device does not fit, or the metric is euclidean.
            BankTypeError: The queries are not floating.
            BankKeyError: A field that is compared is not there.
        """
        table = self._table()
        queries = self._queries(queries, table, "triplet_sum")
        selection = _selection(table, queries, exclude, include, _Ages(max_age, half_life, step), bias)
        match = _clause("labels", {"label": labels}, table, queries)[0]
        return table.reads.triplet_sum(
            queries, table.embeddings, labels=match, margin=margin, mining=mining, selection=selection, impl=impl
        )

    def _queries(self, queries: Tensor, table: Table, similarity: str | None = None) -> Tensor:
        """Checked, and of unit length under cosine, in float32 at least so that half precision loses nothing."""
        check_embeddings(queries, self.dim, table.embeddings.device if table.home is None else table.home, "queries")
        if similarity is not None and self.metric == "euclidean":
            msg = (
                f"{similarity} needs a similarity; a euclidean bank has nearest only, so build it with metric='cosine'"
            )
            raise BankValueError(msg)
        if self.metric != "cosine":
            return queries
        wide = queries.to(torch.promote_types(queries.dtype, torch.float32))
        return torch.nn.functional.normalize(wide, dim=1)


class _Ages(NamedTuple):
    """The part of a row selection that looks at stamps."""

    max_age: float | Tensor | None
    half_life: float | None
    step: int | Tensor | None


def _selection(
    table: Table,
    queries: Tensor,
    exclude: Condition | None,
    include: Condition | None,
    ages: _Ages,
    bias: Tensor | None,
) -> Selection:
    return Selection(
        exclude=_clauses("exclude", exclude, table, queries),
        include=_clauses("include", include, table, queries),
        bias=_row_bias(table, ages, bias),
        count=table.count,
        offloaded=table.home is not None,
    )


def _clauses(word: str, condition: Condition | None, table: Table, queries: Tensor) -> tuple[Clause, ...]:
    if condition is None:
        return ()
    matches = [condition] if isinstance(condition, Mapping) else condition
    return tuple(_clause(word, match, table, queries) for match in matches)


def _clause(word: str, match: FieldMatch, table: Table, queries: Tensor) -> Clause:
    return tuple(
        (_query_values(word, name, values, queries), _row_values(word, name, table)) for name, values in match.items()
    )


def _query_values(word: str, name: str, values: Tensor, queries: Tensor) -> Tensor:
    if not isinstance(values, Tensor):
        msg = f"{word} compares field {name!r} with a {type(values).__name__}; expected a tensor with one value a query"
        raise BankTypeError(msg)
    if values.shape != queries.shape[:1]:
        msg = (
            f"{word} compares field {name!r} with values of shape {tuple(values.shape)}; "
            f"expected ({queries.shape[0]},), one a query"
        )
        raise BankValueError(msg)
    if values.device != queries.device:
        msg = (
            f"{word} compares field {name!r} with values on {values.device}; "
            f"the queries are on {queries.device}, move one of them"
        )
        raise BankValueError(msg)
    return values


def _row_values(word: str, name: str, table: Table) -> Tensor:
    if name not in table.fields:
        there = ", ".join(map(repr, table.fields)) or "none"
        msg = f"{word} needs the field {name!r}; the fields here are: {there}. Declare it where the rows are stored"
        raise BankKeyError(msg)
    values = table.fields[name]
    if values.ndim != 1:
        msg = (
            f"{word} compares field {name!r}, whose rows have shape {tuple(values.shape[1:])}; expected one value a row"
        )
        raise BankValueError(msg)
    return values


def _row_bias(table: Table, ages: _Ages, bias: Tensor | None) -> Float[Tensor, " rows"] | None:
    """The given bias, the ages and the empty slots as one bias a row; None where it would be all 0."""
    total = None if bias is None else _whole_bias(table, bias)
    if table.valid is not None:
        zero = torch.zeros(table.valid.shape, device=table.valid.device) if total is None else total
        total = zero.masked_fill(~table.valid, -torch.inf)
    if ages.max_age is None and ages.half_life is None:
        return total
    if table.steps is None or table.clock is None:
        msg = "these rows have no age; max_age and half_life need a bank, whose pushes are stamped"
        raise BankValueError(msg)
    now = table.clock if ages.step is None else ages.step
    if table.mapping is None:
        by_age = _bias_by_age(now - table.steps.to(table.clock.device), ages)
    else:
        by_age = torch.empty(table.steps.shape, device=table.home)
        for run in table.mapping.runs():
            by_age[run] = _bias_by_age(now - table.steps[run].to(by_age.device), ages)
    return by_age if total is None else total + by_age


def _bias_by_age(age: Int64[Tensor, " rows"], ages: _Ages) -> Float[Tensor, " rows"]:
    bias = torch.zeros(age.shape, device=age.device)
    if ages.half_life is not None:
        _check_positive("half_life", ages.half_life)
        bias = age * (-math.log(2) / ages.half_life)
    if ages.max_age is not None:
        bias = bias.masked_fill(age > ages.max_age, -torch.inf)
    return bias


def _whole_bias(table: Table, bias: Tensor) -> Float[Tensor, " rows"]:
    """A bias for each slot, from one for each slot or for each row there is."""
    rows = table.embeddings.shape[0]
    if not isinstance(bias, Tensor) or not bias.is_floating_point():
        given = bias.dtype if isinstance(bias, Tensor) else type(bias).__name__
        msg = f"bias is {given}; expected a floating tensor with one value a row"
        raise BankTypeError(msg)
    if table.part is not None:
        bias = bias[table.part]
    if bias.shape == (rows,):
        return bias
    there = rows if table.count is None else _host_count(table.count, bias)
    if bias.shape != (there,) or there > rows:
        msg = f"bias has shape {tuple(bias.shape)}; expected ({there},), one value a row, or ({rows},), one a slot"
        raise BankValueError(msg)
    return torch.nn.functional.pad(bias, (0, rows - bias.shape[0]))


def _host_count(count: Tensor, bias: Tensor) -> int:
    """The rows there are; where reading it would wait or break the graph, the bias is trusted to know."""
    return int(count) if count.is_cpu and not torch.compiler.is_compiling() else bias.numel()


def _check_positive(what: str, value: float) -> None:
    if not value > 0:
        msg = f"{what} is {value}; expected more than 0 steps"
        raise BankValueError(msg)
