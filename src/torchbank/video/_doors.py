"""What the room checks at its doors: streams, times, and what comes with each row."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from torchbank.banks import check_device, check_int64
from torchbank.errors import BankKeyError, BankTypeError, BankValueError

Times = float | Tensor | Sequence[float]
"""Seconds: one number for all rows, or one for each."""
StreamIds = Tensor | Sequence[int]
PerRow = Tensor | Sequence[float] | float | None


def readable(values: Tensor) -> bool:
    """Whether values can be looked at without waiting for a device or breaking a graph."""
    return values.is_cpu and not torch.compiler.is_compiling()


def as_times(time: Times, rows: int, device: torch.device, what: str = "time") -> Float64[Tensor, " rows"]:
    """One time for each row.

    Raises:
        BankTypeError: Something else than numbers.
        BankValueError: Another shape or device; NaN or infinite, where that can be read.
    """
    if isinstance(time, bool) or not isinstance(time, int | float | Tensor | list | tuple):
        msg = f"{what} is a {type(time).__name__}; expected seconds, as a float or a float64 tensor, one a row"
        raise BankTypeError(msg)
    if isinstance(time, int | float):
        if not math.isfinite(time):
            msg = f"{what} is {time}; expected finite seconds"
            raise BankValueError(msg)
        return torch.full((rows,), time, dtype=torch.float64, device=device)
    times = time if isinstance(time, Tensor) else torch.tensor(time, dtype=torch.float64, device=device)
    if times.dtype == torch.bool or times.is_complex():
        msg = f"{what} has dtype {times.dtype}; expected seconds, as float64"
        raise BankTypeError(msg)
    if times.shape not in ((rows,), ()):
        msg = f"{what} has shape {tuple(times.shape)}; expected one number, or ({rows},), one for each row"
        raise BankValueError(msg)
    check_device(what, times, device)
    times = times.detach().to(torch.float64).expand(rows)
    if readable(times) and not times.isfinite().all():
        msg = f"{what} of row {int(times.isfinite().int().argmin())} is not finite; expected seconds"
        raise BankValueError(msg)
    return times


def as_streams(stream_ids: StreamIds | None, rows: int, streams: int) -> Int64[Tensor, " rows"] | None:
    """The stream of each row, on the host; None if no one said.

    Raises:
        BankTypeError: They are not integers.
        BankValueError: There is not one for each row.
        BankKeyError: There is no such stream.
    """
    if stream_ids is None:
        return None
    given = stream_ids if isinstance(stream_ids, Tensor) else torch.tensor(stream_ids)
    # The tensor of no list has no integers.
    given = given.to(torch.int64) if given.numel() == 0 and not isinstance(stream_ids, Tensor) else given
    check_int64("stream_ids", given)
    if given.shape != (rows,):
        msg = f"stream_ids has shape {tuple(given.shape)}; expected ({rows},), one for each row"
        raise BankValueError(msg)
    ids = given.cpu()
    check_known(ids, streams)
    return ids


def check_known(ids: Int64[Tensor, " rows"], streams: int) -> None:
    """Raise unless every id is one of a stream."""
    unknown = (ids < 0) | (ids >= streams)
    if unknown.any():
        msg = f"stream_ids names stream {int(ids[unknown][0])}; this memory has streams 0 to {streams - 1}"
        raise BankKeyError(msg)


def check_order(
    times: Float64[Tensor, " rows"], streams: Int64[Tensor, " rows"], now: Float64[Tensor, " streams"]
) -> None:
    """Raise, where it can be read, if a row is older than its stream.

    Raises:
        BankValueError: Time goes backwards, against the stream or within the batch.
    """
    if not readable(times):
        return
    order = streams.argsort(stable=True)
    own, seconds = streams[order], times[order]
    before = now[own]
    follows = own[1:] == own[:-1]
    before[1:] = torch.where(follows, torch.maximum(before[1:], seconds[:-1]), before[1:])
    late = seconds < before
    if late.any():
        place = int(late.int().argmax())
        msg = (
            f"time of row {int(order[place])} is {float(seconds[place])} s, and its stream {int(own[place])} was at "
            f"{float(before[place])} s; give the rows of a stream in order of time, or reset it before another video"
        )
        raise BankValueError(msg)


def check_window(window: float | None) -> None:
    """Raise unless a window is a length of time.

    Raises:
        BankValueError: It is not 0 or more.
    """
    if window is not None and not window >= 0:
        msg = f"window is {window}; expected seconds, 0 or more, or None for all time"
        raise BankValueError(msg)


def check_fields(given: Mapping[str, Tensor], declared: Mapping[str, object]) -> None:
    """Raise unless every declared field is given and no other.

    Raises:
        BankKeyError: A field is missing or unknown.
    """
    missing = [name for name in declared if name not in given]
    unknown = [name for name in given if name not in declared]
    if missing or unknown:
        what = f"misses {missing}" if missing else f"has {unknown}"
        msg = f"write {what}; this memory takes the fields {list(declared)}, declared with fields={{...}}"
        raise BankKeyError(msg)


def as_column(what: str, values: PerRow, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """One value for each row: 1, or False, where none is given.

    Raises:
        BankTypeError: The values are no tensor of that kind.
        BankValueError: There is not one for each row, or they are elsewhere.
    """
    if values is None:
        return torch.full((rows,), dtype != torch.bool, dtype=dtype, device=device)
    if not isinstance(values, Tensor):
        values = torch.tensor(values, device=device)
    if (values.dtype == torch.bool) != (dtype == torch.bool):
        msg = f"{what} has dtype {values.dtype}; expected {dtype}"
        raise BankTypeError(msg)
    if values.shape not in ((rows,), ()):
        msg = f"{what} has shape {tuple(values.shape)}; expected one value, or ({rows},), one for each row"
        raise BankValueError(msg)
    check_device(what, values, device)
    return values.detach().to(dtype).expand(rows)
