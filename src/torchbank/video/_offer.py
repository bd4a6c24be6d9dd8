"""A batch on its way into a memory: checked, and cut into parts that hold one row of a stream at most.

Axes: batch (rows of one call), part (rows of one part, in order of their streams).
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from torchbank.banks import admit, check_embeddings
from torchbank.errors import BankValueError
from torchbank.video import _doors
from torchbank.video._stream_bank import INPUTS, rounds

if TYPE_CHECKING:
    from torchbank.video.memory import TemporalMemory


class Part(NamedTuple):
    """Rows of different streams, in order of the streams.

    Attributes:
        index: ``(part,)`` which rows of the batch they are; None for all of them as they come.
        features: ``(part, dim)``, with their graph.
        inputs: The fields, and the `INPUTS` of the bank.
    """

    index: Int64[Tensor, " part"] | None
    features: Tensor
    inputs: dict[str, Tensor]


class Offer(NamedTuple):
    """A batch that may be written.

    Attributes:
        features: ``(batch, dim)``, with their graph.
        inputs: The fields, and the `INPUTS` of the bank, each ``(batch, ...)``.
        indices: The rows of each part.
    """

    features: Tensor
    inputs: dict[str, Tensor]
    indices: list[Int64[Tensor, " part"] | None]

    def parts(self) -> Iterator[Part]:
        """Part after part, in order of time."""
        for index in self.indices:
            if index is None:
                yield Part(None, self.features, self.inputs)
            else:
                here = index.to(self.features.device)
                inputs = {name: column[here] for name, column in self.inputs.items()}
                yield Part(index, self.features[here], inputs)

    def join(self, answers: list[Tensor]) -> Tensor:
        """What was answered part by part, in order of the batch."""
        if len(answers) == 1 and self.indices[0] is None:
            return answers[0]
        order = torch.cat([index for index in self.indices if index is not None]).argsort()
        return torch.cat(answers)[order.to(answers[0].device)]


def prepare(
    memory: "TemporalMemory",
    features: Tensor,
    time: _doors.Times,
    stream_ids: _doors.StreamIds | None,
    quality: _doors.PerRow,
    pin: _doors.PerRow,
    fields: Mapping[str, Tensor],
) -> Offer:
    """Check a batch as a whole, so that an error leaves the memory unchanged.

    Args:
        memory: Where it goes.
        features: As for `TemporalMemory.write`, and so are the others.
        time: Seconds.
        stream_ids: Of each row.
        quality: Of each row.
        pin: Whether it is to stay.
        fields: What is stored with each row.
    """
    bank, ledger = memory.bank, memory.ledger
    check_embeddings(features, memory.dim, memory.device, "features")
    rows, device = features.shape[0], features.device
    _doors.check_fields(fields, bank.schema.fields)
    streams, indices = divide(stream_ids, rows, memory.streams)
    times = _doors.as_times(time, rows, device)
    if any(rule.needs_quality for rule in memory.write_rules) and quality is None:
        msg = "a write rule looks at the quality of each row; give quality=, one value a row"
        raise BankValueError(msg)
    streams = streams.to(device, non_blocking=True)
    _doors.check_order(times, streams, ledger.now)
    grades = _doors.as_column("quality", quality, rows, torch.float32, device)
    pins = _doors.as_column("pin", pin, rows, torch.bool, device)
    inputs = dict(fields) | dict(zip(INPUTS, (streams, times, grades, pins), strict=True))
    if len(indices) > 1:
        # The bank checks what it is given, part by part: too late for the first of several.
        inputs = bank.schema.check_push(features, inputs, device, INPUTS)
        admit(features.detach(), memory.dtype, memory.metric == "cosine", strict=_doors.readable(features))
    return Offer(features, inputs, indices)


def divide(
    stream_ids: _doors.StreamIds | None, rows: int, streams: int
) -> tuple[Int64[Tensor, " batch"], list[Int64[Tensor, " part"] | None]]:
    """The stream of each row, and the parts of a batch, on the host.

    Raises:
        BankValueError: Nobody says which streams the rows are of, and there are not as many as streams.
    """
    given = streams_or_none(stream_ids, rows, streams)
    if given is None:
        if streams > 1 or rows < 2:
            return torch.arange(rows), [None]
        return torch.zeros(rows, dtype=torch.int64), list(torch.arange(rows).split(1))
    parts = rounds(given)
    if len(parts) == 0 or (len(parts) == 1 and bool((given[1:] > given[:-1]).all())):
        return given, [None]
    return given, [*parts]


def streams_or_none(stream_ids: _doors.StreamIds | None, rows: int, streams: int) -> Int64[Tensor, " batch"] | None:
    """The stream of each row on the host; None where row i is of stream i, or all of the only one.

    Raises:
        BankValueError: Nobody says, and there are not as many rows as streams.
    """
    given = _doors.as_streams(stream_ids, rows, streams)
    if given is None and streams > 1 and rows not in (0, streams):
        msg = f"there are {rows} rows for {streams} streams; give stream_ids=, the stream of each row"
        raise BankValueError(msg)
    return given
