"""
Grounds: the backgrounds behind the figures. A background does not depend on the persona.

Every pattern takes the size in pixels and a random stream, and returns an RGB image.
"""

import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from scraper.demo.painter.style import any_colour, mix

GROUNDS = ("white", "plain", "patterned", "checkered")
"""Backgrounds by name; `patterned` is one of `PATTERNS` at random."""

Size = tuple[int, int]
"""Width and height in pixels."""


def draw_ground(ground: str, size: Size, *, rng: random.Random) -> Image.Image:
    """
    Returns a new RGB image that shows a background only.

    Args:
        ground: The background, one of `GROUNDS`.
        size: Width and height in pixels.
        rng: Random stream of colours and pattern.
    """
    if ground == "white":
        return Image.new("RGB", size, (255, 255, 255))
    if ground == "plain":
        return Image.new("RGB", size, any_colour(rng))
    if ground == "checkered":
        return _checks(size, rng)
    return rng.choice(PATTERNS)(size, rng)


def _checks(size: Size, rng: random.Random) -> Image.Image:
    cell = max(4, round(max(size) / rng.uniform(9, 20)))
    first = any_colour(rng)
    second = mix(
        first, (255, 255, 255) if sum(first) < 400 else (20, 20, 30), rng.uniform(0.4, 0.9)
    )
    columns, rows = size[0] // cell + 2, size[1] // cell + 2
    board = Image.new("RGB", (columns, rows), first)
    board.putdata(
        [second if (i % columns + i // columns) % 2 else first for i in range(columns * rows)]
    )
    return board.resize((columns * cell, rows * cell), Image.Resampling.NEAREST).crop((0, 0, *size))


def _dots(size: Size, rng: random.Random) -> Image.Image:
    image = Image.new("RGB", size, any_colour(rng))
    canvas, fill = ImageDraw.Draw(image), any_colour(rng)
    gap = round(max(size) / rng.uniform(6, 12))
    radius = gap * rng.uniform(0.15, 0.32)
    for row, y in enumerate(range(0, size[1] + gap, gap)):
        for x in range(gap // 2 * (row % 2), size[0] + gap, gap):
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    return image


def _stripes(size: Size, rng: random.Random) -> Image.Image:
    image = Image.new("RGB", size, any_colour(rng))
    canvas, fill = ImageDraw.Draw(image), any_colour(rng)
    gap = round(max(size) / rng.uniform(5, 14))
    slant = rng.choice((0, size[1] // 2, size[1], -size[1]))
    for x in range(-size[0] - size[1], 2 * size[0] + size[1], gap):
        canvas.polygon(
            (x, 0, x + gap // 2, 0, x + gap // 2 + slant, size[1], x + slant, size[1]), fill=fill
        )
    return image


def _gradient(size: Size, rng: random.Random) -> Image.Image:
    ramp = rng.choice((Image.linear_gradient, Image.radial_gradient))("L")
    mask = ramp.rotate(rng.choice((0, 90, 180, 270))).resize(size)
    return Image.composite(
        Image.new("RGB", size, any_colour(rng)), Image.new("RGB", size, any_colour(rng)), mask
    )


def _stars(size: Size, rng: random.Random) -> Image.Image:
    image = Image.new("RGB", size, any_colour(rng))
    canvas, fill = ImageDraw.Draw(image), any_colour(rng, pale=0.8)
    for _ in range(rng.randrange(18, 45)):
        x, y, radius = (
            rng.uniform(0, size[0]),
            rng.uniform(0, size[1]),
            max(size) * rng.uniform(0.01, 0.045),
        )
        inner = radius * 0.3
        canvas.polygon(
            (
                x,
                y - radius,
                x + inner,
                y - inner,
                x + radius,
                y,
                x + inner,
                y + inner,
                x,
                y + radius,
                x - inner,
                y + inner,
                x - radius,
                y,
                x - inner,
                y - inner,
            ),
            fill=fill,
        )
    return image


def _scenery(size: Size, rng: random.Random) -> Image.Image:
    image = Image.new("RGB", size, any_colour(rng, pale=0.8))
    canvas, width, height = ImageDraw.Draw(image), *size
    for level in (0.45, 0.6, 0.75):
        fill, x = any_colour(rng, pale=0.2), -rng.randrange(width // 6 + 1)
        while x < width:
            step = rng.randrange(width // 8 + 1, width // 3 + 2)
            top = height * (level - rng.uniform(0.0, 0.2))
            canvas.rectangle((x, top, x + step, height), fill=fill)
            x += step
    return image


PATTERNS: tuple[Callable[[Size, random.Random], Image.Image], ...] = (
    _dots,
    _stripes,
    _gradient,
    _stars,
    _scenery,
)
"""Functions that draw a patterned background."""
