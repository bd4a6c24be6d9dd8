"""Images whose label looks wrong, beside images of their class and of the class that they resemble."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torchbank.data import LabelledImages
from torchbank.errors import BankValueError
from torchbank.report._image_cells import HALF, frame_image, show_image
from torchbank.report._style import BLUE, GREY, VERMILION, drawable, picture

_GAP = 0.5


@dataclass(frozen=True)
class Suspect:
    """An image with images to compare it with.

    Args:
        image: Its row in the data set.
        class_images: Rows of images of its class.
        other_images: Rows of images of the class that it resembles more.
        other_class: The name of that class.
    """

    image: int
    class_images: tuple[int, ...]
    other_images: tuple[int, ...]
    other_class: str


def plot_suspect_sheet(images: LabelledImages, suspects: Sequence[Suspect], path: str | Path) -> None:
    """Draw suspects, one a line: the image, images of the class it is labelled with, images of the other class.

    Args:
        images: The images.
        suspects: In the order in which they are drawn.
        path: The PNG to write.

    Raises:
        BankValueError: There is no suspect.
    """
    if not suspects:
        msg = "there is no suspect to draw; every class has one image only"
        raise BankValueError(msg)
    each = max(max(len(suspect.class_images), len(suspect.other_images)) for suspect in suspects)
    starts = (1 + _GAP, 1 + each + 2 * _GAP)
    across = starts[1] + each
    with picture(Path(path), width=0.92 * across + 1.0, height=1.2 * len(suspects) + 1.6) as figure:
        axes = figure.subplots()
        pitch = 1.3
        axes.set(xlim=(-0.5, across - 0.5), ylim=(pitch * len(suspects) - 0.5, -1.1), aspect="equal")
        axes.axis("off")
        for line, suspect in enumerate(suspects):
            y = pitch * line
            show_image(axes, images, suspect.image, 0, y)
            frame_image(axes, 0, y, color=VERMILION, linewidth=3, linestyle=(0, (2, 1.2)))
            label = images.class_names[int(images.labels[suspect.image])]
            for start, rows, name in (
                (starts[0], suspect.class_images, label),
                (starts[1], suspect.other_images, suspect.other_class),
            ):
                axes.text(start - HALF, y - HALF - 0.05, drawable(name[:24]), fontsize=11, color=GREY, va="bottom")
                for place, row in enumerate(rows):
                    show_image(axes, images, row, start + place, y)
                    frame_image(axes, start + place, y, color="#BBBBBB", linewidth=1)
        for x, word, color in ((0, "suspect", VERMILION), (starts[0], "its class", BLUE), (starts[1], "like it", BLUE)):
            axes.text(x - HALF, -0.85, word, fontsize=13, fontweight="bold", color=color, va="bottom")
        axes.set_title(f"The {len(suspects)} images that resemble their own class least")
