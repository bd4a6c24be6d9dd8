"""Streams that outlive a process: step through them, save on the way, and take them up where they stopped."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from torchbank.banks import check_size
from torchbank.errors import BankStateError
from torchbank.video import _doors
from torchbank.video._context import Context
from torchbank.video._offer import divide
from torchbank.video.memory import TemporalMemory

__all__ = ["Moment", "follow"]


class Moment(NamedTuple):
    """What arrives at once.

    Attributes:
        features: ``(batch, dim)``.
        time: Seconds, as for `TemporalMemory.write`.
        stream_ids: ``(batch,)`` int64, or None, as there.
        quality: ``(batch,)`` or None, as there.
    """

    features: Tensor
    time: _doors.Times
    stream_ids: _doors.StreamIds | None = None
    quality: _doors.PerRow = None


def follow(
    memory: TemporalMemory,
    moments: Iterable[Moment | tuple[Tensor, _doors.Times]],
    *,
    path: str | Path | None = None,
    save_every: int = 1000,
) -> Iterator[tuple[Moment, Context]]:
    """Step through a stream at a constant cost, and keep the memory in a file so that a crash loses little.

    A memory that was loaded from such a file passes over what it has seen already, and goes on to the bit as if
    nothing had happened. For that the times of each stream must ascend from moment to moment.

    Args:
        memory: Where it is remembered; may hold the beginning of the stream.
        moments: `Moment` or ``(features, time)``, from the beginning of the stream or from anywhere before the
            moment at which the memory was saved.
        path: A file to save to every ``save_every`` steps and at the end; None saves nothing.
        save_every: So many steps.

    Yields:
        Each moment that was not seen before, and what `TemporalMemory.step` read for it.

    Raises:
        BankStateError: A part of a moment was seen before and a part was not.
        BankError: As `TemporalMemory.step` does.

    Example:
        >>> import tempfile, torch
        >>> from torchbank import video
        >>> film = [(torch.randn(1, 4), float(second)) for second in range(10)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/memory.safetensors"
        ...     _ = list(video.follow(video.TemporalMemory(4, capacity=3), film[:6], path=path))
        ...     resumed = video.follow(video.load(path), film)
        ...     [moment.time for moment, context in resumed]
        [6.0, 7.0, 8.0, 9.0]
    """
    check_size("save_every", save_every)
    steps = 0
    for given in moments:
        moment = given if isinstance(given, Moment) else Moment(*given)
        if _seen(memory, moment):
            continue
        context = memory.step(moment.features, moment.time, stream_ids=moment.stream_ids, quality=moment.quality)
        yield moment, context
        # Now that it was dealt with: what is in the file is not given again.
        steps += 1
        if path is not None and steps % save_every == 0:
            memory.save(path)
    if path is not None:
        memory.save(path)


def _seen(memory: TemporalMemory, moment: Moment) -> bool:
    """Whether a moment lies in what the memory has been offered. Waits for the device."""
    rows = len(moment.features)
    if not rows:
        return False
    streams, _ = divide(moment.stream_ids, rows, memory.streams)
    times = _doors.as_times(moment.time, rows, memory.device).cpu()
    seen = times <= memory.ledger.now.cpu()[streams]
    if seen.any() and not seen.all():
        row = int(seen.int().argmin())
        msg = (
            f"the memory has seen some rows of this moment, but not row {row} of stream {int(streams[row])} at "
            f"{float(times[row])} s; give the moments as they were when it was saved"
        )
        raise BankStateError(msg)
    return bool(torch.all(seen))
