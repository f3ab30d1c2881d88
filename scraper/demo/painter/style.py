"""
Styles: colours, line and shading of a drawing, and the texture over the whole image.

A style turns the colours of a persona into the paints of one drawing. The jitter is strong, so
that no mean colour identifies a persona; the shapes identify it.
"""

import colorsys
import random
from dataclasses import dataclass, replace
from functools import lru_cache

from PIL import Image, ImageChops, ImageFilter

from scraper.demo.facts.personae import Colour, Persona

STYLES = ("sketch", "flat", "cel", "painted")
"""Renderings by name."""

# Factors of red, green and blue: white light in three of eight drawings, else a coloured light.
_TINTS: tuple[tuple[float, float, float], ...] = (
    (1.0, 1.0, 1.0),
    (1.0, 1.0, 1.0),
    (1.0, 1.0, 1.0),
    (1.06, 0.97, 0.86),
    (0.86, 0.94, 1.08),
    (1.05, 0.9, 0.97),
    (0.88, 0.86, 0.98),
    (0.97, 1.02, 0.93),
)


@dataclass(frozen=True, slots=True)
class Paints:
    """The colours and the line of one figure in one drawing."""

    hair: Colour
    skin: Colour
    eyes: Colour
    main: Colour
    trim: Colour
    accent: Colour
    accessory: Colour
    line: Colour
    line_width: float
    """Width of outlines in pixels for a head of 90 pixels; under 0.5 there are no outlines."""
    shaded: bool
    """Whether shapes have a darker rim on one side."""


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Returns (1 - share) · first + share · second, with `share` from 0 to 1."""
    return (
        round(first[0] + (second[0] - first[0]) * share),
        round(first[1] + (second[1] - first[1]) * share),
        round(first[2] + (second[2] - first[2]) * share),
    )


def darker(colour: Colour, factor: float = 0.78) -> Colour:
    """Returns `colour` times `factor`, with blue dimmed by 0.05 less, as shadows look bluer."""
    red, green, blue = colour
    return (
        round(red * factor),
        round(green * factor),
        round(min(255.0, blue * (factor + 0.05))),
    )


def any_colour(rng: random.Random, *, pale: float = 0.5) -> Colour:
    """Returns a random colour of any hue, which is light with probability `pale`."""
    hue = rng.random()
    if rng.random() < pale:
        return _rgb(hue, rng.uniform(0.05, 0.35), rng.uniform(0.85, 1.0))
    return _rgb(hue, rng.uniform(0.3, 0.85), rng.uniform(0.25, 0.9))


def paints(persona: Persona, *, style: str, rng: random.Random) -> Paints:
    """
    Returns the paints of a persona in one drawing: its colours with jitter, light and style.

    Args:
        persona: The persona.
        style: Rendering, one of `STYLES`.
        rng: Random stream of the jitter.
    """
    tint = rng.choice(_TINTS)
    hue = rng.gauss(0.0, 0.025)
    value = rng.uniform(0.72, 1.2)
    # A sketch is pale: with less saturation it could be refused as a monochrome image.
    saturation = rng.uniform(0.9, 1.5) if style == "sketch" else rng.uniform(0.55, 1.35)

    def paint(
        colour: Colour, spread: float = 0.02, turn: float = 0.0, share: float = 1.0
    ) -> Colour:
        own = hue * share + turn + rng.gauss(0.0, spread)
        bright = (1.0 + (value - 1.0) * share) * rng.uniform(0.92, 1.08)
        shifted = _shift(colour, own, saturation, bright)
        lit = (
            min(255, round(shifted[0] * tint[0])),
            min(255, round(shifted[1] * tint[1])),
            min(255, round(shifted[2] * tint[2])),
        )
        return mix(lit, (255, 255, 255), 0.35) if style == "sketch" else lit

    # Half of the drawings change the hue of the clothes; the cut identifies the persona.
    turn = rng.random() if rng.random() < 0.5 else 0.0
    # The hair takes up to 28 % of a random colour, so that hair alone does not identify a family.
    hair = mix(paint(persona.hair_colour, 0.03), any_colour(rng), rng.uniform(0.0, 0.28))
    ink = rng.randrange(30, 80)
    line = (ink, ink, ink + rng.randrange(30))
    if style == "sketch":
        grey = rng.randrange(90, 150)
        line = (grey, grey, grey)
    width = {"sketch": (0.6, 1.2), "painted": (0.0, 0.9)}.get(style, (0.8, 2.2))
    return Paints(
        hair=hair,
        skin=paint(persona.skin, 0.006, share=0.35),
        eyes=paint(persona.eyes, 0.015),
        main=paint(persona.main, 0.02, turn),
        trim=paint(persona.trim, 0.02, turn),
        accent=paint(persona.accent, 0.02, turn),
        accessory=paint(persona.accessory_colour, 0.03, turn if rng.random() < 0.5 else 0.0),
        line=line,
        line_width=rng.uniform(*width),
        shaded=style in {"cel", "painted"},
    )


def dressed_as(wearer: Paints, owner: Paints) -> Paints:
    """Returns the paints of `wearer` with the clothes' colours of `owner`."""
    return replace(wearer, main=owner.main, trim=owner.trim, accent=owner.accent)


def finish(image: Image.Image, *, style: str, ground: str, rng: random.Random) -> Image.Image:
    """
    Returns an RGB image with the texture of its style: blur, paper and light if it is painted.

    Args:
        image: The image, which is not changed.
        style: Rendering, one of `STYLES`.
        ground: Background; a white background keeps every channel above 245.
        rng: Random stream of blur and light.
    """
    if style != "painted":
        return image
    if rng.random() < 0.7:
        image = image.filter(ImageFilter.BoxBlur(1))
    texture = _texture(4 if ground == "white" else rng.randrange(4))
    return ImageChops.multiply(image, texture.resize(image.size, Image.Resampling.NEAREST))


def monochrome(image: Image.Image, *, rng: random.Random) -> Image.Image:
    """Returns an RGB image in grey, or (half of the time) in one hue of saturation 0.02."""
    grey = image.convert("L")
    if rng.random() < 0.5:
        return Image.merge("RGB", (grey, grey, grey))
    lifted = grey.point([40 + round(level * 215 / 255) for level in range(256)])
    dimmed = lifted.point([round(level * 0.98) for level in range(256)])
    bands = rng.choice(
        ((lifted, lifted, dimmed), (dimmed, lifted, lifted), (lifted, dimmed, lifted))
    )
    return Image.merge("RGB", bands)


@lru_cache(maxsize=5)
def _texture(light: int) -> Image.Image:
    # Paper grain in light from one of four sides (0 to 3) or from all sides (4). The grain takes
    # at most 7 levels of 255, so that white stays above 245 (`curation.image.WHITE`).
    grain = Image.frombytes("L", (256, 256), random.Random(f"grain/{light}").randbytes(256 * 256))  # noqa: S311 - a texture, no secrets
    paper = grain.point([255 - level * 7 // 255 for level in range(256)])
    if light < 4:
        ramp = Image.linear_gradient("L").rotate(90 * light)
        paper = ImageChops.multiply(
            paper, ramp.point([200 + level * 55 // 255 for level in range(256)])
        )
    return Image.merge("RGB", (paper, paper, paper))


def _shift(colour: Colour, turn: float, saturation: float, value: float) -> Colour:
    hue, old_saturation, old_value = colorsys.rgb_to_hsv(*(part / 255 for part in colour))
    return _rgb(
        (hue + turn) % 1.0, min(1.0, old_saturation * saturation), min(1.0, old_value * value)
    )


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return (round(red * 255), round(green * 255), round(blue * 255))
