"""
Draws the demo board's images: a cast, what the image shows, its ground, style and seed.

The same arguments give the same bytes. Nothing but the arguments decides what is drawn.
"""

import random
from collections.abc import Sequence

from PIL import Image

from scraper.demo.facts.personae import Persona
from scraper.demo.painter.compositions import COMPOSITIONS
from scraper.demo.painter.edits import EDITS, edit
from scraper.demo.painter.ground import GROUNDS
from scraper.demo.painter.style import STYLES, finish
from scraper.demo.painter.style import monochrome as in_grey

__all__ = ["EDITS", "GROUNDS", "KINDS", "STYLES", "draw", "edit"]

KINDS = tuple(COMPOSITIONS)


def draw(
    cast: Sequence[Persona],
    *,
    kind: str,
    ground: str,
    style: str,
    seed: int,
    width: int,
    height: int,
    monochrome: bool = False,
) -> Image.Image:
    """
    Returns one RGB image of `width` × `height` pixels.

    Args:
        cast: Who is shown. A portrait and `views` show the first; `cosplay` shows the first in
            the clothes of the last; `crowd` and `comic` show all.
        kind: One of `KINDS`.
        ground: One of `GROUNDS`; a comic mixes it with others.
        style: One of `STYLES`.
        seed: Decides pose, framing, expression, palette and everything else left open.
        width: In pixels.
        height: In pixels.
        monochrome: Whether the image is grey, or as good as grey.
    """
    names = "+".join(persona.name for persona in cast)
    rng = random.Random(f"{names}/{kind}/{ground}/{style}/{seed}")  # noqa: S311 - drawings, no secrets
    image = COMPOSITIONS[kind](cast, (width, height), ground, style, rng)
    image = finish(image, style=style, ground=ground, rng=rng)
    return in_grey(image, rng=rng) if monochrome else image
