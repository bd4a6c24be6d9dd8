"""What a temporal memory and a feature bank answer."""

from typing import NamedTuple

from torch import Tensor


class Context(NamedTuple):
    """What was read, and from which rows.

    Rows stand by slot, not in order of time; `times` tells when.

    Attributes:
        value: ``(batch, dim)``, in float32 or the wider dtype of the queries; 0 where a query saw nothing.
        weights: ``(batch, capacity)`` how much of the value came from each row: sums to 1, or to 0 of nothing.
        slots: ``(batch, capacity)`` int64, the slot of each row in the memory.
        times: ``(batch, capacity)`` float64 seconds; without meaning where not ``valid``.
        valid: ``(batch, capacity)`` bool, the rows that the query saw.
    """

    value: Tensor
    weights: Tensor
    slots: Tensor
    times: Tensor
    valid: Tensor


class Window(NamedTuple):
    """Rows around a moment, for a `FeatureBankHead`.

    Attributes:
        rows: ``(batch, length, dim)``, 0 where not ``valid``.
        times: ``(batch, length)`` float64 seconds.
        valid: ``(batch, length)`` bool: which of them are rows and not padding.
    """

    rows: Tensor
    times: Tensor
    valid: Tensor


class StreamView(NamedTuple):
    """A copy of the rows of one stream, in order of time.

    Attributes:
        embeddings: ``(rows, dim)`` in the dtype of the memory.
        times: ``(rows,)`` float64 seconds: when each was written, or the mean of what was merged into it.
        latest: ``(rows,)`` float64 seconds: the newest moment that it contains anything of.
        sizes: ``(rows,)`` float64: how many rows that were written it stands for.
        usage: ``(rows,)`` float64: the attention it received, counted for rules that ask for it.
        pinned: ``(rows,)`` bool.
        slots: ``(rows,)`` int64, its slot in the memory.
        valid: ``(rows,)`` bool, all True.
        fields: One tensor ``(rows, *shape)`` for each field, by name.
    """

    embeddings: Tensor
    times: Tensor
    latest: Tensor
    sizes: Tensor
    usage: Tensor
    pinned: Tensor
    slots: Tensor
    valid: Tensor
    fields: dict[str, Tensor]
