"""A video with its identities drawn in, and the looks at each identity that its contact sheet shows."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from torchbank.data import VideoWriter, read_video, video_facts
from torchbank.report._contact_sheet import Crop
from torchbank.tracking import Appearances

# Okabe and Ito's colours, dark enough for white numbers; a number tells identities apart that share one.
_COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (90, 90, 90), (150, 110, 0))
# Looks at one identity, and at one visit.
MOST_CROPS, CROPS_OF_A_VISIT = 60, 6


def annotate_video(
    video: str | Path,
    appearances: Appearances,
    path: str | Path,
    *,
    source: int = 0,
    on_frame: Callable[[int, int], None] = lambda *_: None,
) -> dict[int, list[Crop]]:
    """Draw the identity of each box of a source, and cut out looks at each identity.

    Args:
        video: What was looked at.
        appearances: Boxes and identities.
        path: The MP4 to write; it ends with the last frame that was looked at.
        source: Which of the sources of ``appearances``.
        on_frame: Told how many frames are done, and how many there are.

    Returns:
        Crops by identity.
    """
    rows = np.flatnonzero((appearances.sources == source) & (appearances.identities > 0))
    by_frame: dict[int, list[int]] = {}
    for row in rows.tolist():
        by_frame.setdefault(int(appearances.frames[row]), []).append(row)
    wanted = _chosen(appearances, source)
    crops: dict[int, list[Crop]] = {}
    last = max(by_frame, default=0)
    facts = video_facts(video)
    with VideoWriter(path, fps=facts.fps, width=facts.width, height=facts.height) as writer:
        for frame, image in enumerate(read_video(video), start=1):
            if frame > last:
                break
            here = by_frame.get(frame, [])
            for row in wanted.intersection(here):
                crop = _crop(image, appearances, row)
                if crop is not None:
                    crops.setdefault(int(appearances.identities[row]), []).append(crop)
            writer.write(_drawn(image, appearances, here))
            on_frame(frame, last)
    return crops


def _chosen(appearances: Appearances, source: int) -> set[int]:
    """Rows that are shown: some of every visit, evenly spread, and not more than a sheet holds."""
    of_identity: dict[int, list[int]] = {}
    for visit in appearances.visits():
        if visit.source == source:
            of_identity.setdefault(visit.identity, []).extend(_evenly(visit.rows.tolist(), CROPS_OF_A_VISIT))
    return {row for rows in of_identity.values() for row in _evenly(rows, MOST_CROPS)}


def _evenly(rows: list[int], most: int) -> Iterable[int]:
    """At most so many, from the middles of as many equal parts: the ends of a visit are often cut off."""
    count = min(most, len(rows))
    return [rows[int((place + 0.5) * len(rows) / count)] for place in range(count)]


def _crop(image: np.ndarray, appearances: Appearances, row: int) -> Crop | None:
    height, width = image.shape[:2]
    x1, y1, x2, y2 = appearances.boxes[row].clip([0, 0, 0, 0], [width, height, width, height]).round().astype(int)
    if x2 <= x1 or y2 <= y1:
        return None
    name, time = appearances.names[appearances.sources[row]], float(appearances.times[row])
    return Crop(image[y1:y2, x1:x2].copy(), int(appearances.track_ids[row]), name, time)


def _drawn(image: np.ndarray, appearances: Appearances, rows: list[int]) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.fromarray(image)
    pen: Any = ImageDraw.Draw(canvas)
    size = max(14, image.shape[0] // 40)
    font = ImageFont.load_default(size)
    for row in rows:
        identity = int(appearances.identities[row])
        color = _COLORS[identity % len(_COLORS)]
        x1, y1, x2, y2 = (float(side) for side in appearances.boxes[row])
        pen.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=color, width=max(2, image.shape[0] // 250))
        # Within the picture, also where the box is not.
        place = (max(x1, 0.0), max(y1 - size - 4, 0.0))
        left, top, right, bottom = pen.textbbox(place, str(identity), font=font)
        pen.rectangle((left - 3, top - 3, right + 3, bottom + 3), fill=color)
        pen.text(place, str(identity), fill="white", font=font)
    return np.asarray(canvas)
