"""Images at the places of one axes: many axes are slow."""

from typing import TYPE_CHECKING, Any

import numpy as np

from torchbank.data import LabelledImages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Places are one apart; an image fills a little less.
HALF = 0.45


def show_image(axes: "Axes", images: LabelledImages, index: int, x: float, y: float) -> None:
    """Draw an image around a place."""
    pixels = images.image(index).permute(1, 2, 0).numpy()
    gray = pixels.shape[2] == 1
    axes.imshow(
        np.squeeze(pixels, 2) if gray else pixels,
        cmap="gray" if gray else None,
        vmin=0,
        vmax=1,
        extent=(x - HALF, x + HALF, y + HALF, y - HALF),
        aspect="equal",
    )


def frame_image(axes: "Axes", x: float, y: float, **look: Any) -> None:
    """Draw a frame around the image at a place."""
    from matplotlib.patches import Rectangle

    side = 2 * HALF
    axes.add_patch(Rectangle((x - HALF, y - HALF), side, side, fill=False, **look))
