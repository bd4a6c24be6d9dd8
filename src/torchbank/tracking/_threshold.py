"""How similar a match must be now: as it was given, or as a calibration tells for so many identities."""

import math
from collections.abc import Mapping

import numpy as np

from torchbank.tracking._self_calibration import SelfCalibration
from torchbank.tracking._tracks import Tracks
from torchbank.tracking.calibrate import Calibration
from torchbank.tracking.gallery import IdentityGallery


class Threshold:
    """The least cosine and the least lead of a match.

    Args:
        gallery: Where the calibration lies.
        given: A number; a calibration, which goes into the gallery; or None, to calibrate on what is seen.
        margin: The least lead; None takes that of the calibration.
        false_merge_rate: Where this calibrates itself.
        comparisons: How often a new track is compared with everyone.

    Attributes:
        given: The number, or None.
        margin_given: As given.
        own: What is learned from, or None where that is not asked for.
        learned: Whether the gallery's calibration is from here.
    """

    def __init__(
        self,
        gallery: IdentityGallery,
        given: float | Calibration | None,
        margin: float | None,
        *,
        false_merge_rate: float,
        comparisons: int,
    ) -> None:
        self.gallery = gallery
        self.given = None if isinstance(given, Calibration) else given
        self.margin_given = margin
        self.comparisons = comparisons
        self.own = None
        self.learned = False
        if isinstance(given, Calibration):
            gallery.calibration = given
        elif given is None:
            self.own = SelfCalibration(gallery.dim, false_merge_rate=false_merge_rate, margin=margin or 0.0)

    @property
    def calibration(self) -> Calibration | None:
        """The one in use."""
        return self.gallery.calibration if self.given is None else None

    @property
    def least(self) -> float:
        """The least cosine of a match now; inf while too little was seen to tell."""
        if self.given is not None:
            return float(self.given)
        calibration = self.calibration
        return math.inf if calibration is None else calibration.at(max(1, len(self.gallery)) * self.comparisons)

    @property
    def margin(self) -> float:
        """By how much the best identity must beat the second best now."""
        if self.margin_given is not None:
            return self.margin_given
        calibration = self.calibration
        return 0.0 if calibration is None else calibration.margin

    def learn(self, tracks: Tracks, rows: np.ndarray, looks: np.ndarray, frame: int, evidence_frames: int) -> None:
        """Take complete looks of some tracks, and calibrate anew when enough have come."""
        if self.own is None:
            return
        for row, look in zip(rows.tolist(), looks, strict=True):
            self.own.add(
                int(tracks["number"][row]),
                int(tracks["identity"][row]),
                int(tracks["source"][row]),
                look,
                (frame - evidence_frames + 1, frame),
                int(tracks["first_frame"][row]),
            )
        if self.own.is_due:
            found, held = self.own.fit(len(self.gallery)), self.gallery.calibration
            # What came with the gallery is better than what a few tracks tell.
            if found is not None and (held is None or found.track_pairs >= held.track_pairs or self.learned):
                self.gallery.calibration, self.learned = found, True

    def forget(self, tracks: Tracks) -> None:
        """Drop what was learned from identities that are neither in the gallery nor undecided tracks."""
        if self.own is not None:
            self.own.drop({*self.gallery.identities.tolist(), *tracks["number"][tracks.used].tolist()})

    def state(self) -> dict[str, np.ndarray]:
        """What was learned from, as arrays."""
        return {} if self.own is None else self.own.state()

    def load(self, state: Mapping[str, np.ndarray], *, learned: bool) -> None:
        """Take what `state` gave."""
        self.learned = learned
        if self.own is not None:
            self.own.load(state)
