"""The tracks that a linker follows: one row for each, in columns, so that a frame is a few array operations."""

from collections.abc import Mapping

import numpy as np

COLUMNS: dict[str, type] = {
    "source": np.int64,
    "track": np.int64,
    "identity": np.int64,
    # The number that the track was given first, which stays unless it is a known identity.
    "number": np.int64,
    "final": np.bool_,
    "label": np.int64,
    # Evidence in the look that is being gathered; negative while the track waits to start one.
    "count": np.int64,
    # Looks since the track began, of a track that is not decided.
    "looks": np.int64,
    "score": np.float64,
    # Moments of the gallery: when the track can have begun at the earliest, and when it was seen last.
    "begun": np.int64,
    "seen": np.int64,
    # Updates of its source.
    "updated": np.int64,
    "first_frame": np.int64,
    "last_frame": np.int64,
    "first_time": np.float64,
}
VECTORS = ("look", "past")
"""The sum of the embeddings of the look that is being gathered, and the sum of the looks before it."""


class Tracks:
    """Rows of `COLUMNS`, and the `VECTORS` of each.

    Args:
        dim: Length of an embedding as the tracker gives it.
        compared: Length of a look as it is compared.

    Attributes:
        columns: By name; a row that is not in `index` has no meaning.
        index: The row of each (source, track).
    """

    def __init__(self, dim: int, compared: int) -> None:
        self.dim = dim
        self.index: dict[tuple[int, int], int] = {}
        self.columns: dict[str, np.ndarray] = {name: np.zeros(0, dtype) for name, dtype in COLUMNS.items()}
        self.columns |= {
            name: np.zeros((0, size), np.float32) for name, size in zip(VECTORS, (dim, compared), strict=True)
        }
        self._free: list[int] = []

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def used(self) -> np.ndarray:
        """The rows of all tracks, in the order that they began."""
        return np.fromiter(self.index.values(), np.int64, len(self.index))

    def open(self, source: int, track: int) -> int:
        """A blank row for a track that is not there."""
        if not self._free:
            self._grow()
        row = self._free.pop()
        for column in self.columns.values():
            column[row] = 0
        self.columns["source"][row], self.columns["track"][row] = source, track
        self.index[source, track] = row
        return row

    def close(self, row: int) -> None:
        """Drop a track, and the embeddings that were gathered of it."""
        del self.index[int(self.columns["source"][row]), int(self.columns["track"][row])]
        for name in VECTORS:
            self.columns[name][row] = 0
        self._free.append(row)

    def of(self, source: int) -> np.ndarray:
        """The rows of one source."""
        rows = self.used
        return rows[self.columns["source"][rows] == source]

    def _grow(self) -> None:
        size = len(self.columns["track"])
        larger = max(64, 2 * size)
        for name, column in self.columns.items():
            self.columns[name] = np.concatenate([column, np.zeros((larger - size, *column.shape[1:]), column.dtype)])
        self._free += range(larger - 1, size - 1, -1)

    def state(self) -> dict[str, np.ndarray]:
        """The rows in use."""
        return {name: column[self.used] for name, column in self.columns.items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the rows of `state`."""
        for position in range(len(state["track"])):
            row = self.open(int(state["source"][position]), int(state["track"][position]))
            for name, column in self.columns.items():
                column[row] = state[name][position]
