"""Every appearance of one identity in time order: whether they are one person is for the eye to say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from torchbank.errors import BankValueError
from torchbank.report._style import GREY, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A crop stands in a cell of this width and height; text lies below it.
_WIDTH, _HEIGHT, _TEXT = 0.62, 1.0, 0.34


@dataclass(frozen=True)
class Crop:
    """One look at an identity.

    Args:
        image: ``(height, width, 3)``.
        track_id: The tracker's id.
        source: Where.
        time: When, seconds.
    """

    image: UInt8[np.ndarray, "height width 3"]
    track_id: int
    source: str
    time: float


def plot_contact_sheet(
    crops: Sequence[Crop], path: str | Path, *, identity: int, columns: int = 12, most: int = 60
) -> None:
    """Draw the crops of an identity in time order, with time, source and raw track id; a rule where the id changed.

    Args:
        crops: In any order.
        path: The PNG to write.
        identity: Whose they are.
        columns: Crops in a row.
        most: Of more crops, so many are drawn, spread evenly.

    Raises:
        BankValueError: There is no crop.
    """
    if not crops:
        msg = f"there is no crop of identity {identity} to draw"
        raise BankValueError(msg)
    ordered = sorted(crops, key=lambda crop: crop.time)
    drawn = [ordered[place] for place in np.unique(np.linspace(0, len(ordered) - 1, most).astype(int))]
    sources = len({crop.source for crop in crops})
    # Never narrower than its title.
    across = max(min(columns, len(drawn)), 6)
    down = -(-len(drawn) // across)
    with picture(Path(path), width=1.05 * across, height=1.9 * down + 1.0) as figure:
        axes = figure.subplots()
        axes.set(xlim=(0, across), ylim=(down * (_HEIGHT + _TEXT) / _WIDTH, 0), aspect="equal")
        axes.axis("off")
        for place, crop in enumerate(drawn):
            before = drawn[place - 1] if place else crop
            changed = (crop.track_id, crop.source) != (before.track_id, before.source)
            text = f"{_clock(crop.time)}  #{crop.track_id}" + f"\n{crop.source}" * (sources > 1)
            _show(axes, crop, text, place % across, place // across * (_HEIGHT + _TEXT) / _WIDTH, changed=changed)
        tracks = len({(crop.source, crop.track_id) for crop in crops})
        axes.set_title(f"Identity {identity}: {_count(tracks, 'track')}" + (f" in {sources} sources" * (sources > 1)))
        note = "in time order; #: the tracker's id; a heavy line: it had given a new one"
        shown = "" if len(drawn) == len(crops) else f"; {len(drawn)} of {len(crops)} looks"
        figure.supxlabel(note + shown, fontsize=11, color=GREY)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("s" if number > 1 else "")


def _show(axes: "Axes", crop: Crop, text: str, x: float, y: float, *, changed: bool) -> None:
    """One crop, as large as its cell lets it be, standing on the text."""
    cell_height = _HEIGHT / _WIDTH
    height, width = crop.image.shape[:2]
    scale = min(0.92 / width, (cell_height - 0.06) / height)
    left, bottom = x + 0.5 - scale * width / 2, y + cell_height
    axes.imshow(crop.image, extent=(left, left + scale * width, bottom, bottom - scale * height), aspect="equal")
    axes.text(x + 0.5, bottom + 0.06, text, ha="center", va="top", fontsize=8, color=GREY)
    if changed:
        axes.plot([x + 0.01, x + 0.01], [y + 0.03, bottom], color="black", linewidth=3, solid_capstyle="butt")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
