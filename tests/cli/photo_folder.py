"""A folder of small photographs."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(root: Path, classes: int) -> Path:
    """Four images of each of some classes: a grey of its own with noise."""
    noise = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"class-{label}"
        folder.mkdir(parents=True)
        for index in range(4):
            pixels = 20 * label + noise.integers(0, 15, (16, 16, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return root
