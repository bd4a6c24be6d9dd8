"""A threshold from what a linker has seen so far, in a fixed number of bytes."""

from collections.abc import Mapping

import numpy as np

from torchbank.errors import BankStateError
from torchbank.tracking._looks import Looks
from torchbank.tracking.calibrate import Calibration, calibrate_looks

TRACKS = 128
LOOKS = 8
# Tracks that must have come before a first fit, and between fits as a share of what is held.
FIRST, SHARE = 5, 0.25


class SelfCalibration:
    """Looks of the last tracks with enough evidence, and the calibration that follows from them.

    Of each track some looks are kept, at even steps over its life; of the tracks those that were seen last.

    Args:
        dim: Length of an embedding as it is compared.
        false_merge_rate: For `torchbank.tracking.calibrate`.
        margin: For `torchbank.tracking.calibrate`.
    """

    def __init__(self, dim: int, *, false_merge_rate: float, margin: float) -> None:
        self.false_merge_rate = false_merge_rate
        self.margin = margin
        self.columns = {
            "looks": np.zeros((TRACKS, LOOKS, dim), np.float32),
            "spans": np.zeros((TRACKS, LOOKS, 2), np.int64),
            "presence": np.zeros((TRACKS, 2), np.int64),
            "source": np.zeros(TRACKS, np.int64),
            "identity": np.zeros(TRACKS, np.int64),
            # Looks that are held, looks that came, and every how many of them one is held.
            "held": np.zeros(TRACKS, np.int64),
            "came": np.zeros(TRACKS, np.int64),
            "stride": np.ones(TRACKS, np.int64),
            # The order in which tracks were seen last.
            "order": np.zeros(TRACKS, np.int64),
        }
        self.since_fit = 0
        self.clock = 0
        self._entries: dict[int, int] = {}

    def add(self, key: int, identity: int, source: int, look: np.ndarray, span: tuple[int, int], began: int) -> None:
        """Take one look of a track.

        Args:
            key: The number that the track was given first, which no other track had.
            identity: The number that it has now.
            source: Where it is.
            look: ``(dim,)`` of length 1.
            span: First and last frame of the look.
            began: First frame of the track.
        """
        entry = self._entries.get(key)
        columns = self.columns
        if entry is None:
            entry = int(columns["order"].argmin())
            self._entries = {other: place for other, place in self._entries.items() if place != entry}
            self._entries[key] = entry
            for column in columns.values():
                column[entry] = 0
            columns["stride"][entry], columns["source"][entry] = 1, source
            columns["presence"][entry, 0] = began
            self.since_fit += 1
        self.clock += 1
        columns["order"][entry], columns["identity"][entry] = self.clock, identity
        columns["presence"][entry, 1] = span[1]
        came = int(columns["came"][entry])
        columns["came"][entry] += 1
        if came % columns["stride"][entry] == 0:
            self._keep(entry, look, span)

    def _keep(self, entry: int, look: np.ndarray, span: tuple[int, int]) -> None:
        columns = self.columns
        held = int(columns["held"][entry])
        if held == LOOKS:
            held = LOOKS // 2
            for name in ("looks", "spans"):
                columns[name][entry, :held] = columns[name][entry, ::2].copy()
            columns["stride"][entry] *= 2
        columns["looks"][entry, held], columns["spans"][entry, held] = look, span
        columns["held"][entry] = held + 1

    def drop(self, keep: set[int]) -> None:
        """Forget the looks of all tracks whose identity is not among those to keep."""
        for key, entry in list(self._entries.items()):
            if int(self.columns["identity"][entry]) not in keep:
                del self._entries[key]
                for column in self.columns.values():
                    column[entry] = 0

    @property
    def is_due(self) -> bool:
        """Whether enough has come since the last fit for another."""
        return self.since_fit >= max(FIRST, SHARE * len(self._entries))

    def fit(self, gallery_size: int) -> Calibration | None:
        """The calibration of what is held; None while that is too little."""
        self.since_fit = 0
        columns = self.columns
        entries = np.flatnonzero(columns["held"])
        held = np.arange(LOOKS) < columns["held"][entries, None]
        looks = Looks(
            columns["looks"][entries][held],
            np.repeat(np.arange(len(entries)), columns["held"][entries]),
            columns["spans"][entries][held],
            columns["presence"][entries],
            columns["source"][entries],
        )
        try:
            return calibrate_looks(
                looks,
                false_merge_rate=self.false_merge_rate,
                gallery_size=max(1, gallery_size),
                samples_per_identity=LOOKS,
                margin=self.margin,
            )
        except BankStateError:
            return None

    def state(self) -> dict[str, np.ndarray]:
        """What is held, as arrays."""
        keys = np.array(list(self._entries.items()), dtype=np.int64).reshape(-1, 2)
        return {**self.columns, "keys": keys, "counters": np.array([self.since_fit, self.clock])}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Take what `state` gave."""
        for name, column in self.columns.items():
            column[:] = state[name]
        self._entries = dict(state["keys"].tolist())
        self.since_fit, self.clock = state["counters"].tolist()
