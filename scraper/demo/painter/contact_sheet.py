"""
Command: `python -m scraper.demo.painter.contact_sheet OUT.png`

Draws the cast as a table: one row per major persona, family by family, with ten random drawings.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from scraper.demo.facts.personae import MAJOR
from scraper.demo.painter.drawing import GROUNDS, STYLES, draw

_SIDE = 100
"""Side of a cell, in pixels."""
_LABEL = 118
"""Width of the column of names, in pixels."""
_GAP = 10
"""Space between families, in pixels."""


def contact_sheet(*, columns: int = 10, seed: int = 0) -> Image.Image:
    """
    Returns the table of drawings as an RGB image, with random backgrounds and styles.

    Args:
        columns: Drawings per persona.
        seed: Random seed of the drawings.
    """
    rng = random.Random(f"sheet/{seed}")  # noqa: S311 - drawings, no secrets
    families = list(dict.fromkeys(persona.family for persona in MAJOR))
    height = len(MAJOR) * _SIDE + _GAP * (len(families) + 1)
    sheet = Image.new("RGB", (_LABEL + columns * _SIDE + _GAP, height), (250, 250, 250))
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for row, persona in enumerate(MAJOR):
        top = row * _SIDE + _GAP * (families.index(persona.family) + 1)
        given, _, rest = persona.name.partition("_")
        canvas.text((8, top + 24), f"{given}\n{rest}", fill=(30, 30, 40), font=font)
        canvas.text((8, top + 54), persona.family, fill=(120, 120, 130), font=font)
        for column in range(columns):
            size = rng.choice(((360, 360), (300, 400), (400, 320)))
            drawing = draw(
                [persona],
                kind="portrait",
                ground=rng.choice(GROUNDS),
                style=rng.choice(STYLES),
                seed=1000 * seed + column,
                width=size[0],
                height=size[1],
            )
            drawing.thumbnail((_SIDE - 4, _SIDE - 4), Image.Resampling.LANCZOS)
            left = _LABEL + column * _SIDE + (_SIDE - drawing.width) // 2
            sheet.paste(drawing, (left, top + (_SIDE - drawing.height) // 2))
    return sheet


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the contact sheet to the path of the command line; OSError if it cannot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[-1])
    parser.add_argument("out", type=Path, help="path of the PNG file to write")
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of the drawings (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    sheet = contact_sheet(seed=options.seed).quantize(256, dither=Image.Dither.NONE)
    sheet.save(options.out, "PNG", optimize=True)


if __name__ == "__main__":
    main()
