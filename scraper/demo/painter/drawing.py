"""
Draws one image of the demo board from a cast, a composition, a background, a style and a seed.

The same arguments give the same pixels: there is no other input.
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
"""Compositions by name."""


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
        cast: The personae. `portrait` and `views` show the first; `cosplay` shows the first in
            the clothes of the last; `crowd` and `comic` show all.
        kind: Composition, one of `KINDS`.
        ground: Background, one of `GROUNDS`; half of the panels of a comic have another.
        style: Rendering, one of `STYLES`.
        seed: Random seed of pose, framing, expression and colours.
        width: Width in pixels, at least 1.
        height: Height in pixels, at least 1.
        monochrome: Whether the image is grey or has one hue of very low saturation.

    Raises:
        KeyError: `kind` is not one of `KINDS`.
    """
    names = "+".join(persona.name for persona in cast)
    rng = random.Random(f"{names}/{kind}/{ground}/{style}/{seed}")  # noqa: S311 - drawings, no secrets
    image = COMPOSITIONS[kind](cast, (width, height), ground, style, rng)
    image = finish(image, style=style, ground=ground, rng=rng)
    return in_grey(image, rng=rng) if monochrome else image
