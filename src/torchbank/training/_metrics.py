"""Metrics of a run: one JSON object a line, and the same numbers for TensorBoard."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor


class LogWindow:
    """Means of logged values over the steps since they were last read, held on the device until then.

    Example:
        >>> import torch
        >>> from torchbank.training import LogWindow
        >>> window = LogWindow()
        >>> window.add({"loss": torch.tensor(1.0)})
        >>> window.add({"loss": torch.tensor(3.0), "pairs": torch.tensor(8.0)})
        >>> window.means()
        {'loss': 2.0, 'pairs': 8.0}
    """

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """Remember the values of one step, each a 0-d tensor."""
        for name, value in values.items():
            # A copy: a method may hand out a view of a buffer that it moves in place.
            self._values.setdefault(name, []).append(value.detach().clone())

    def means(self) -> dict[str, float]:
        """The mean of each value over the steps that gave it; begins a new window."""
        means = {name: float(torch.stack(values).double().mean()) for name, values in self._values.items()}
        self._values = {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """The values of the window so far."""
        return {name: torch.stack(values) for name, values in self._values.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._values = {name: list(values.unbind()) for name, values in state.items()}


class MetricsWriter:
    """Writes ``metrics.jsonl`` and TensorBoard's event file; use it in a ``with`` block.

    Args:
        lines: The file of JSON lines.
        tensorboard: The folder of event files.
        keep_bytes: How much of an existing file of lines is kept: what a checkpoint had seen.
        step: The step that goes on, so that TensorBoard hides what came after it before.

    Lines hold no clock time: two runs of one configuration on one CPU write the same bytes.
    """

    def __init__(self, lines: Path, tensorboard: Path, *, keep_bytes: int = 0, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Opened for update, never "w": a crash between opening and truncating must not empty the file.
        self._lines = lines.open("ab")
        self._lines.truncate(keep_bytes)
        self._lines.seek(keep_bytes)
        self._events = SummaryWriter(log_dir=str(tensorboard), purge_step=step + 1 if step else None)

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lines.close()
        self._events.close()

    def write(self, step: int, values: dict[str, int | float]) -> None:
        """Add one line.

        Args:
            step: Updates made so far.
            values: Numbers by name; a name such as "test/map_at_r" is grouped by TensorBoard.
        """
        self._lines.write(json.dumps({"step": step, **values}).encode() + b"\n")
        self._lines.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, global_step=step)

    def position(self) -> int:
        """Bytes of lines written, once they are on the disk."""
        os.fsync(self._lines.fileno())
        self._events.flush()
        return self._lines.tell()


def read_metrics(lines: Path) -> list[dict[str, int | float]]:
    """The lines of a metrics file, oldest first.

    Args:
        lines: A ``metrics.jsonl``.

    Returns:
        One dictionary a line, each with ``step``. A last line cut short by a crash is left out.
    """
    whole = lines.read_text().split("\n")[:-1]
    return [json.loads(line) for line in whole]
