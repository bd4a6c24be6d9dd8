"""Detectors by name. A detector is ``detector(image) -> boxes (n, 4), scores (n,), classes (n,)`` of an RGB picture."""

from collections.abc import Callable, Sequence

import numpy as np

from torchbank.errors import BankKeyError
from torchbank.tracking._embedders import load_ultralytics

__all__ = ["Detector", "build_detector"]

Detector = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
# ByteTrack uses boxes down to this score.
LEAST_SCORE = 0.1


def build_detector(name: str, *, classes: Sequence[int] = ()) -> Detector:
    """The detector of a name.

    Args:
        name: ``ultralytics:MODEL``, such as ultralytics:yolo26n.
        classes: Which of its classes; empty is all.

    Raises:
        BankKeyError: There is no such detector.
        BankValueError: The package is not installed.
    """
    package, _, model = name.partition(":")
    if package != "ultralytics" or not model:
        msg = f"unknown detector {name!r}; expected ultralytics:MODEL, such as ultralytics:yolo26n"
        raise BankKeyError(msg)
    network = load_ultralytics(model)

    def detect(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        picture = np.ascontiguousarray(image[..., ::-1])
        (result,) = network.predict(picture, conf=LEAST_SCORE, classes=list(classes) or None, verbose=False)
        found = result.boxes
        columns = (found.xyxy, found.conf, found.cls)
        boxes, scores, kinds = (column.float().cpu().numpy() for column in columns)
        return boxes.astype(np.float64), scores.astype(np.float64), kinds.astype(np.int64)

    return detect
