"""One look for every picture: readable from the back of a room, and without colour."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torchbank.io import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour vision tell apart.
BLUE, VERMILION, GREEN, ORANGE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#5A5A5A"

_RULES = {
    "font.size": 13,
    "axes.titlesize": 16,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 14,
    "axes.labelsize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "lines.linewidth": 2.4,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "figure.facecolor": "white",
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.2,
}


@contextmanager
def picture(path: Path, *, width: float = 9.6, height: float = 5.4) -> Iterator["Figure"]:
    """A figure in the house style, written to a PNG when the block ends.

    Args:
        path: The PNG; its folder is made.
        width: Inches.
        height: Inches.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # A bare Figure needs no window system and leaves no state behind.
    with mpl.rc_context(_RULES):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        content = io.BytesIO()
        figure.savefig(content, format="png")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, content.getvalue())


def mark_step(axes: "Axes", step: int | None, text: str) -> None:
    """A dotted vertical line with a word beside it; nothing for None, or for a step that is not in sight."""
    left, right = axes.get_xlim()
    if step is None or not left <= step <= right:
        return
    axes.axvline(step, color=GREY, linestyle=":", linewidth=1.8)
    in_right_half = step > (left + right) / 2
    axes.annotate(
        text,
        xy=(step, 1),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-6 if in_right_half else 6, -4),
        textcoords="offset points",
        ha="right" if in_right_half else "left",
        va="top",
        color=GREY,
        fontsize=12,
    )


def drawable(text: str) -> str:
    """A text, or nothing where the font has not all of its characters: a row of boxes tells nobody anything."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    return text if all(ord(character) in known for character in text) else ""


def thousands(axis: "Axis") -> None:
    """Write ticks as 2,000."""
    from matplotlib.ticker import StrMethodFormatter

    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
