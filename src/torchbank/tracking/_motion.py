"""The motion model of SORT and DeepSORT: boxes of constant velocity, all tracks at once.

A box is centre x, centre y, width / height and height, each with a velocity. The noises are diagonal and a velocity
moves its own coordinate only, so the 8 x 8 covariance of the Kalman filter is four blocks of 2 x 2 for ever: three
numbers a coordinate, and no matrix to invert. Axes: tracks, 4 (coordinates).
"""

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = ["Motion"]

# Standard deviations relative to the height, and of the width / height, as in [Wojke et al. 2017](arXiv:1703.07402).
_POSITION, _VELOCITY, _RATIO, _RATIO_VELOCITY, _MEASURED_RATIO = 1 / 20, 1 / 160, 1e-2, 1e-5, 1e-1


class Motion:
    """Kalman filters of a changing number of tracks."""

    def __init__(self) -> None:
        self.position = self.velocity = np.zeros((0, 4))
        # Variance of the position, of the velocity, and their covariance.
        self._pp = self._vv = self._pv = np.zeros((0, 4))

    @property
    def boxes(self) -> Float[np.ndarray, "tracks 4"]:
        """Where the tracks are, as x1, y1, x2, y2."""
        x, y, ratio, height = self.position.T
        half = np.stack([ratio * height, height], axis=1) / 2
        return np.concatenate([np.stack([x, y], axis=1) - half, np.stack([x, y], axis=1) + half], axis=1)

    def append(self, boxes: Float[np.ndarray, "new 4"]) -> None:
        """Begin a track at each box, at rest."""
        measured = _measure(boxes)
        position, velocity = _deviations(measured)
        # The ratio begins as sure as it stays; the others may be off by twice the noise, and move at any speed.
        position[:, [0, 1, 3]] *= 2
        velocity[:, [0, 1, 3]] *= 10
        new = (measured, np.zeros_like(measured), position**2, velocity**2, np.zeros_like(measured))
        columns = (self.position, self.velocity, self._pp, self._vv, self._pv)
        self.position, self.velocity, self._pp, self._vv, self._pv = (
            np.concatenate(pair) for pair in zip(columns, new, strict=True)
        )

    def keep(self, tracks: Bool[np.ndarray, " tracks"]) -> None:
        """Forget the tracks that are not marked."""
        columns = (self.position, self.velocity, self._pp, self._vv, self._pv)
        self.position, self.velocity, self._pp, self._vv, self._pv = (column[tracks] for column in columns)

    def predict(self) -> None:
        """Move every track by one frame."""
        position, velocity = _deviations(self.position)
        self.position = self.position + self.velocity
        self._pp = self._pp + 2 * self._pv + self._vv + position**2
        self._pv = self._pv + self._vv
        self._vv = self._vv + velocity**2

    def correct(self, tracks: Int[np.ndarray, " seen"], boxes: Float[np.ndarray, "seen 4"]) -> None:
        """Take a measured box into each of some tracks."""
        variance = self._innovation(tracks)
        off = _measure(boxes) - self.position[tracks]
        gain, velocity_gain = self._pp[tracks] / variance, self._pv[tracks] / variance
        self.position[tracks] += gain * off
        self.velocity[tracks] += velocity_gain * off
        self._vv[tracks] -= velocity_gain * self._pv[tracks]
        self._pp[tracks] *= 1 - gain
        self._pv[tracks] *= 1 - gain

    def distances(self, boxes: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "tracks m"]:
        """Squared Mahalanobis distances of boxes from tracks; chi-square of 4 degrees of freedom if they belong."""
        variance = self._innovation(np.arange(len(self.position)))
        off = _measure(boxes)[None, :, :] - self.position[:, None, :]
        return (off**2 / variance[:, None, :]).sum(axis=2)

    def _innovation(self, tracks: Int[np.ndarray, " seen"]) -> Float[np.ndarray, "seen 4"]:
        noise, _ = _deviations(self.position[tracks])
        noise[:, 2] = _MEASURED_RATIO
        return self._pp[tracks] + noise**2


def _measure(boxes: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "m 4"]:
    x1, y1, x2, y2 = boxes.T.astype(np.float64)
    height = np.maximum(y2 - y1, 1e-6)
    return np.stack([(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / height, height], axis=1)


def _deviations(state: Float[np.ndarray, "tracks 4"]) -> tuple[np.ndarray, np.ndarray]:
    """Noise of positions and of velocities for one frame."""
    position = np.repeat(_POSITION * state[:, 3:], 4, axis=1)
    velocity = np.repeat(_VELOCITY * state[:, 3:], 4, axis=1)
    position[:, 2], velocity[:, 2] = _RATIO, _RATIO_VELOCITY
    return position, velocity
