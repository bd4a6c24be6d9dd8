"""Who was there when: the picture that shows at a glance what a memory mended."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torchbank.errors import BankValueError
from torchbank.report._style import BLUE, GREEN, GREY, ORANGE, VERMILION, picture
from torchbank.tracking import Appearances, Visit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Neighbouring tracks of a row differ in colour, and a white edge parts them without colour.
_COLORS = (BLUE, ORANGE, GREEN, VERMILION, "#CC79A7", "#56B4E9")
# A share of a row is filled, and a bar that is wide enough (share of the axis) carries its raw track id.
_FILLED, _WIDE, _HATCHES = 0.82, 0.035, ("", "///", "...", "xxx")


def plot_identity_timeline(
    appearances: Appearances, path: str | Path, *, most: int = 40, absence: float = 1.0, unit: str = "seconds"
) -> None:
    """Draw one row an identity, one bar a visit, coloured by raw track id, in a lane for each source.

    A row with several colours is an identity that the tracker had lost and the memory gave back.

    Args:
        appearances: The boxes of a run.
        path: The PNG to write.
        most: Draw so many identities, those of the most tracks first, then those that stayed longest.
        absence: Seconds without a box that end a bar.
        unit: What a unit of time is called.

    Raises:
        BankValueError: No box has an identity.
    """
    visits = appearances.visits(absence)
    if not visits:
        msg = "no box has an identity; there is nothing to draw"
        raise BankValueError(msg)
    rows = _rows(visits)
    shown = sorted(sorted(rows, key=lambda identity: _rank(rows[identity]))[:most])
    lanes = len(appearances.names)
    row_height = 0.3 if lanes == 1 else 0.2 + 0.2 * lanes
    with picture(Path(path), width=12.5, height=1.9 + max(row_height * len(shown), 1.2)) as figure:
        axes = figure.subplots()
        begin, end = min(visit.begin for visit in visits), max(visit.end for visit in visits)
        span = (end - begin) or 1.0
        for place, identity in enumerate(shown):
            axes.axhspan(place - 0.5, place + 0.5, color="#F4F4F4" if place % 2 else "white", zorder=0)
            _draw_row(axes, rows[identity], place, lanes, span)
        axes.set(xlim=(begin - 0.01 * span, begin + 1.01 * span), ylim=(len(shown) - 0.5, -0.5))
        axes.set(xlabel=f"time ({unit})", ylabel="identity")
        axes.set_yticks(range(len(shown)), [str(identity) for identity in shown], fontsize=11)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set_title(_title(rows))
        if lanes > 1:
            _name_lanes(axes, appearances.names)
        figure.supxlabel(_caption(rows, shown), fontsize=12, color=GREY)


def _rows(visits: Sequence[Visit]) -> dict[int, list[Visit]]:
    rows: dict[int, list[Visit]] = {}
    for visit in visits:
        rows.setdefault(visit.identity, []).append(visit)
    return rows


def _tracks(row: Sequence[Visit]) -> list[tuple[int, int]]:
    """The raw tracks of an identity, in order."""
    return list(dict.fromkeys((visit.source, visit.track_id) for visit in row))


def _rank(row: Sequence[Visit]) -> tuple[float, float]:
    return -len(_tracks(row)), -sum(visit.end - visit.begin for visit in row)


def _draw_row(axes: "Axes", row: Sequence[Visit], place: int, lanes: int, span: float) -> None:
    tracks, height = _tracks(row), _FILLED / lanes
    top = place - _FILLED / 2
    # A thin line holds the bars of an identity together.
    axes.plot([row[0].begin, max(visit.end for visit in row)], [place, place], color="#C4C4C4", linewidth=1, zorder=1)
    for visit in row:
        number = tracks.index((visit.source, visit.track_id))
        width = max(visit.end - visit.begin, 0.002 * span)
        axes.barh(
            top + height * (visit.source + 0.5),
            width,
            left=visit.begin,
            height=0.94 * height,
            color=_COLORS[number % len(_COLORS)],
            hatch=_HATCHES[number // len(_COLORS) % len(_HATCHES)],
            edgecolor="white",
            linewidth=0.8,
            zorder=2,
        )
        if width > _WIDE * span and len(tracks) > 1:
            axes.text(
                visit.begin + width / 2,
                top + height * (visit.source + 0.5),
                str(visit.track_id),
                ha="center",
                va="center_baseline",
                color="white",
                fontsize=9,
                fontweight="bold",
                zorder=3,
            )


def _name_lanes(axes: "Axes", names: Sequence[str]) -> None:
    """The lanes' names, once, beside the first row."""
    height = _FILLED / len(names)
    for lane, name in enumerate(names):
        axes.annotate(
            name,
            xy=(1, -_FILLED / 2 + height * (lane + 0.5)),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=GREY,
            annotation_clip=False,
        )


def _title(rows: dict[int, list[Visit]]) -> str:
    tracks = sum(len(_tracks(row)) for row in rows.values())
    mended = sum(len(_tracks(row)) > 1 for row in rows.values())
    people = f"{len(rows)} {'identity' if len(rows) == 1 else 'identities'}"
    if not mended:
        return f"{tracks} tracks, {people}: each track stands alone"
    return f"{tracks} tracks became {people}; {mended} had been lost and came back"


def _caption(rows: dict[int, list[Visit]], shown: Sequence[int]) -> str:
    text = "bar: one visit; colour and number: the tracker's id; several colours in a row: an identity that was mended"
    if len(shown) == len(rows):
        return text
    return f"{text}\nthe {len(shown)} identities of most tracks; {len(rows) - len(shown)} others are not shown"
