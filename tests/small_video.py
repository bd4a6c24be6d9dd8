"""A small real video: a red and a blue person walk; the red one leaves and comes back elsewhere."""

import warnings
from pathlib import Path

import numpy as np
import torch

from torchbank.data import VideoWriter

FRAMES, WIDTH, HEIGHT, FPS = 90, 160, 120, 10
RED_IS_GONE = range(31, 71)
RED, BLUE = (220, 20, 20), (20, 20, 220)


def people(frame):
    """Boxes and colours in a frame, from 1 on."""
    blue = (20 + frame, 60, 40 + frame, 110)
    if frame in RED_IS_GONE:
        return [(blue, BLUE)]
    x = 10 + frame if frame < RED_IS_GONE.start else 200 - frame
    return [((x, 5, x + 20, 55), RED), (blue, BLUE)]


def picture(frame):
    image = np.full((HEIGHT, WIDTH, 3), 200, dtype=np.uint8)
    for (x1, y1, x2, y2), color in people(frame):
        image[y1:y2, x1:x2] = color
    return image


def write_video(path):
    with VideoWriter(path, fps=FPS, width=WIDTH, height=HEIGHT) as writer:
        for frame in range(1, FRAMES + 1):
            writer.write(picture(frame))
    return path


def mot_lines(track_ids=None):
    """Every box as a line of a MOT text; ids (frame, colour) -> id, -1 for none."""
    lines = []
    for frame in range(1, FRAMES + 1):
        for (x1, y1, x2, y2), color in people(frame):
            given = -1 if track_ids is None else track_ids(frame, color)
            lines.append(f"{frame},{given},{x1},{y1},{x2 - x1},{y2 - y1},0.9,-1,-1,-1\n")
    return lines


def colors_of_lines():
    return np.array([color for frame in range(1, FRAMES + 1) for _, color in people(frame)], dtype=np.float32)


class MeanColor(torch.nn.Module):
    """An embedder for people of one colour each."""

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return crops.mean(dim=(2, 3))


def write_everything(folder: Path) -> Path:
    """boxes.txt, colors.npy, small.mp4 and the embedder color.pt."""
    (folder / "boxes.txt").write_text("".join(mot_lines()))
    np.save(folder / "colors.npy", colors_of_lines())
    write_video(folder / "small.mp4")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(MeanColor()).save(str(folder / "color.pt"))
    return folder
