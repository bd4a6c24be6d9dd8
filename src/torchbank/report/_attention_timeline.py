"""What a memory attended to while a video ran: moments that were remembered against the moment of asking."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from torchbank.errors import BankValueError
from torchbank.report._style import BLUE, GREY, VERMILION, picture
from torchbank.video import Context

# Weights below this are no dot: there would be one for each row and moment.
_FAINTEST = 0.01
_AREA = 90.0


def plot_attention_timeline(
    times: Float64[Tensor, " moments"],
    contexts: Context,
    path: str | Path,
    *,
    name: str = "",
    marks: Sequence[tuple[float, str]] = (),
) -> None:
    """Draw a dot for each row that was read, as large as its weight; below, how far back the mean weight lies.

    Args:
        times: Seconds of each moment of asking.
        contexts: What was read then, one row a moment.
        path: The PNG to write.
        name: Of the video, for the title.
        marks: Seconds and words of what happened in the video, to be marked on both axes.

    Raises:
        BankValueError: Nothing was read at any moment.
    """
    asking, remembered, weights, valid = (
        column.numpy(force=True) for column in (times, contexts.times, contexts.weights, contexts.valid)
    )
    remembered, weights = np.where(valid, remembered, 0.0), np.where(valid, weights, 0.0)
    total = weights.sum(axis=1)
    if not (total > 0).any():
        msg = "nothing was read at any moment: the memory was empty throughout; give a longer video, or more frames"
        raise BankValueError(msg)
    asked, rows = np.nonzero(weights > _FAINTEST)
    read = total > 0
    back = (weights * (asking[:, None] - remembered))[read].sum(axis=1) / total[read]
    with picture(Path(path), width=9.6, height=8.2) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot(asking, asking, color=GREY, linewidth=1.2, linestyle=":")
        area = _AREA * weights[asked, rows]
        upper.scatter(asking[asked], remembered[asked, rows], s=area, color=BLUE, alpha=0.6, linewidths=0)
        for second, word in marks:
            upper.axhline(second, color=VERMILION, linewidth=1.0, linestyle="--")
            upper.annotate(word, xy=(asking[0], second), xytext=(3, 3), textcoords="offset points", color=VERMILION,
                           fontsize=11)  # fmt: skip
        upper.set(ylabel="remembered moment (s)")
        upper.set_title(f"{name}: what the memory attended to" if name else "What the memory attended to")
        lower.plot(asking[read], back, color=BLUE)
        lower.set(xlabel="moment of asking (s)", ylabel="mean seconds back", ylim=(0, None))
        figure.supxlabel("a dot: a row of the memory, as large as its weight; dotted: now", fontsize=12, color=GREY)
