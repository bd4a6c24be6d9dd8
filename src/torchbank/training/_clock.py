"""How long a step takes, evaluations and checkpoints left out."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class StepClock:
    """Times windows of steps.

    A window ends where the loop reads a loss, which waits for the device, so the times hold on a GPU as well.
    Time between `pause` and `start`, or inside `paused`, is not counted.

    Example:
        >>> from torchbank.training import StepClock
        >>> clock = StepClock()
        >>> clock.start()
        >>> clock.lap(steps=10)
        >>> clock.milliseconds_per_step() >= 0
        True
    """

    def __init__(self) -> None:
        self._windows: list[float] = []
        self._seconds = 0.0
        self._steps = 0
        self._in_window = 0.0
        self._since: float | None = None

    def start(self) -> None:
        """Begin or go on."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Stop counting until the next `start`."""
        if self._since is not None:
            self._in_window += time.perf_counter() - self._since
            self._since = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop counting inside the block, where it was counting before."""
        running = self._since is not None
        self.pause()
        yield
        if running:
            self.start()

    def lap(self, *, steps: int) -> None:
        """End a window of that many steps."""
        with self.paused():
            self._windows.append(1_000 * self._in_window / steps)
            self._seconds += self._in_window
            self._steps += steps
            self._in_window = 0.0

    def milliseconds_per_step(self) -> float:
        """The median over windows; 0 before the first."""
        return statistics.median(self._windows) if self._windows else 0.0

    def steps_per_second(self) -> float:
        """Steps over the whole time spent in them; 0 before the first window."""
        return self._steps / self._seconds if self._seconds else 0.0

    @property
    def seconds(self) -> float:
        """Time spent in steps so far."""
        return self._seconds

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on counting."""
        return {"windows": list(self._windows), "seconds": self._seconds, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._windows = list(state["windows"])
        self._seconds = state["seconds"]
        self._steps = state["steps"]
