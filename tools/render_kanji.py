"""Render the data set `kanji` again from its ten fonts.

    apt-get install --no-install-recommends fonts-seto fonts-reggae fonts-train fonts-dotgothic16 \
        fonts-kouzan-mouhitsu fonts-aoyagi-kouzan-t fonts-aoyagi-soseki fonts-oradano-mincho-gsrr fonts-arphic-ukai
    pip install pillow fonttools
    python tools/render_kanji.py kanji.npz --compare src/torchbank/data/kanji/kanji.npz

Each glyph is drawn at twice the size, cropped to its ink, centred on a white square with a margin of 6 %, reduced
by Lanczos to 32 x 32 and rounded to 16 grey levels. The classes are the level-1 rows of JIS X 0208 in code order; a
font without a character is skipped for it.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageChops, ImageDraw, ImageFont

SIZE = 32
MARGIN = 0.06
WHITE_LEVEL = 15

# In the order of their numbers in the data set.
FONTS = {
    "seto": "seto/setofont.ttf",
    "reggae": "reggae/ReggaeOne-Regular.ttf",
    "train": "train/TrainOne-Regular.ttf",
    "dotgothic": "dotgothic16/DotGothic16-Regular.ttf",
    "kouzan-sousyo": "kouzan-mouhitsu/KouzanBrushFontSousyo.ttf",
    "kouzan-gyosyo": "kouzan-mouhitsu/kouzan-mouhitsu-gyosho.ttf",
    "aoyagi-kouzan-t": "aoyagi-kouzan-t/AoyagiKouzanT.ttf",
    "aoyagi-soseki": "aoyagi-soseki/aoyagi-soseki.ttf",
    "oradano": "oradano-mincho/OradanoGSRR.ttf",
    "ukai": "arphic/ukai.ttc",
}


class Glyph(NamedTuple):
    """One image of the data set."""

    image: np.ndarray
    character: int
    font: int


def main() -> None:
    """Write the data set, and say how it differs from another file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts/truetype"))
    parser.add_argument("--compare", type=Path, help="a file to compare with")
    arguments = parser.parse_args()
    characters = level_1_characters()
    glyphs = sorted(render(characters, arguments.fonts), key=lambda glyph: (glyph.character, glyph.font))
    arrays = {
        "images": np.stack([glyph.image for glyph in glyphs]),
        "character": np.array([glyph.character for glyph in glyphs], dtype=np.int16),
        "font": np.array([glyph.font for glyph in glyphs], dtype=np.uint8),
        "characters": np.array(characters),
        "fonts": np.array(list(FONTS)),
    }
    np.savez_compressed(arguments.output, **arrays)
    print(f"{len(glyphs)} images of {len(characters)} characters in {len(FONTS)} fonts: {arguments.output}")
    if arguments.compare:
        with np.load(arguments.compare) as other:
            compare(arrays, dict(other))


def level_1_characters() -> list[str]:
    """The 2,965 kanji of level 1: JIS X 0208 rows 16 to 47, in code order."""
    codes = (bytes([row, cell]) for row in range(0xB0, 0xD0) for cell in range(0xA1, 0xFF))
    decoded = (code.decode("euc_jp", errors="ignore") for code in codes)
    return [character for character in decoded if character]


def render(characters: list[str], folder: Path) -> Iterator[Glyph]:
    """Draw every character in every font that has it."""
    for number, file in enumerate(FONTS.values()):
        path = folder / file
        if not path.is_file():
            msg = f"no font at {path}; install the packages that this script names at its top"
            raise SystemExit(msg)
        # Fonts draw a box for a character they lack; their table of characters tells.
        known = TTFont(path, fontNumber=0, lazy=True).getBestCmap()
        font = ImageFont.truetype(str(path), 2 * SIZE, index=0)
        for index, character in enumerate(characters):
            if ord(character) in known and (image := draw(character, font)) is not None:
                yield Glyph(image, index, number)


def draw(character: str, font: ImageFont.FreeTypeFont) -> np.ndarray | None:
    """Draw one character as `(32, 32)` levels from 0 (ink) to 15 (paper); None if it has no ink."""
    # Room on all sides: brush strokes leave their box.
    paper = Image.new("L", (4 * SIZE, 4 * SIZE), 255)
    ImageDraw.Draw(paper).text((SIZE, SIZE), character, font=font, fill=0)
    ink = ImageChops.invert(paper).getbbox()
    if ink is None:
        return None
    glyph = paper.crop(ink)
    side = math.ceil(max(glyph.size) / (1 - 2 * MARGIN))
    square = Image.new("L", (side, side), 255)
    square.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
    reduced = np.asarray(square.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
    return np.round(reduced / (255 / WHITE_LEVEL)).astype(np.uint8)


def compare(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    """Print how many images are equal, and how far the others are off, per font."""
    for name in ("character", "font", "characters", "fonts"):
        if not np.array_equal(ours[name], theirs[name]):
            print(f"{name} differs: {len(ours[name])} and {len(theirs[name])} entries")
            return
    off = np.abs(ours["images"].astype(int) - theirs["images"].astype(int))
    for number, name in enumerate(theirs["fonts"]):
        of_font = off[theirs["font"] == number]
        equal = (of_font.reshape(len(of_font), -1).max(axis=1) == 0).mean()
        print(f"  {name:16} {equal:7.2%} of {len(of_font)} images equal, mean difference {of_font.mean():.4f} levels")
    equal = (off.reshape(len(off), -1).max(axis=1) == 0).mean()
    print(f"  {'all':16} {equal:7.2%} of {len(off)} images equal, mean difference {off.mean():.4f} levels of 16")


if __name__ == "__main__":
    main()
