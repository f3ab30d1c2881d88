"""
Compositions: what an image shows, a portrait or one of the kinds that the filters must refuse.

Every composition takes the cast, the size in pixels, a background, a style and a random stream,
and returns an RGB image of that size.
"""

import itertools
import random
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from scraper.demo.facts.personae import Persona
from scraper.demo.painter.figure import draw_figure
from scraper.demo.painter.ground import GROUNDS, draw_ground
from scraper.demo.painter.style import any_colour, dressed_as, paints

Size = tuple[int, int]
"""Width and height in pixels."""
Cast = Sequence[Persona]
Compose = Callable[[Cast, Size, str, str, random.Random], Image.Image]


def _portrait(cast: Cast, size: Size, ground: str, style: str, rng: random.Random) -> Image.Image:
    image = draw_ground(ground, size, rng=rng)
    look = paints(cast[0], style=style, rng=rng)
    draw_figure(image, cast[0], box=(0, 0, *size), paints=look, rng=rng)
    if rng.random() < 0.2:
        _petals(image, rng)
    if ground == "white" and rng.random() < 0.5:
        _margin(image, rng)
    return image


def _margin(image: Image.Image, rng: random.Random) -> None:
    # A white margin as on a print, so that the border is white although a bust touches the edge.
    width = round(min(image.size) * rng.uniform(0.03, 0.05))
    canvas = ImageDraw.Draw(image)
    canvas.rectangle(
        (0, 0, image.width - 1, image.height - 1), outline=(255, 255, 255), width=width
    )


def _petals(image: Image.Image, rng: random.Random) -> None:
    # Petals or snow over the figure. The outer tenth stays free, so a white border stays white.
    canvas, fill = ImageDraw.Draw(image), any_colour(rng, pale=0.8)
    wide, high = image.size
    for _ in range(rng.randrange(5, 16)):
        x, y = rng.uniform(0.1, 0.9) * wide, rng.uniform(0.1, 0.9) * high
        long, short = max(wide, high) * rng.uniform(0.008, 0.03), max(wide, high) * 0.008
        canvas.ellipse((x - long, y - short, x + long, y + short), fill=fill)


def _cosplay(cast: Cast, size: Size, ground: str, style: str, rng: random.Random) -> Image.Image:
    wearer, owner = cast[0], cast[-1]
    image = draw_ground(ground, size, rng=rng)
    look = dressed_as(paints(wearer, style=style, rng=rng), paints(owner, style=style, rng=rng))
    draw_figure(image, wearer, box=(0, 0, *size), paints=look, rng=rng, clothes=owner.outfit)
    return image


def _crowd(cast: Cast, size: Size, ground: str, style: str, rng: random.Random) -> Image.Image:
    image = draw_ground(ground, size, rng=rng)
    count = max(2, len(cast))
    share = size[0] / count
    for index in range(count):
        box = (share * (index - 0.15), 0.0, share * (index + 1.15), float(size[1]))
        persona = cast[index % len(cast)]
        draw_figure(image, persona, box=box, paints=paints(persona, style=style, rng=rng), rng=rng)
    return image


def _views(cast: Cast, size: Size, ground: str, style: str, rng: random.Random) -> Image.Image:
    image = draw_ground(ground, size, rng=rng)
    look = paints(cast[0], style=style, rng=rng)
    count = rng.choice((2, 3, 3, 4))
    share = size[0] / count
    for index in range(count):
        box = (share * index, size[1] * rng.uniform(0, 0.2), share * (index + 1), float(size[1]))
        draw_figure(image, cast[0], box=box, paints=look, rng=rng)
    return image


def _comic(cast: Cast, size: Size, ground: str, style: str, rng: random.Random) -> Image.Image:
    image = Image.new("RGB", size, (255, 255, 255))
    gutter = max(3, size[0] // 60)
    top, rows = gutter, rng.choice((2, 3, 4))
    for _ in range(rows):
        height = (size[1] - gutter) // rows - gutter
        cuts = [0.0, 1.0] if rng.random() < 0.4 else [0.0, rng.uniform(0.35, 0.65), 1.0]
        for start, end in itertools.pairwise(cuts):
            left = gutter + round(start * (size[0] - gutter))
            width = round((end - start) * (size[0] - gutter)) - gutter
            panel = _panel(cast, (width, height), ground, style, rng)
            image.paste(panel, (left, top))
            ImageDraw.Draw(image).rectangle(
                (left, top, left + width, top + height), outline=(20, 20, 20), width=2
            )
        top += height + gutter
    return image


def _panel(cast: Cast, size: Size, ground: str, style: str, rng: random.Random) -> Image.Image:
    panel = draw_ground(ground if rng.random() < 0.5 else rng.choice(GROUNDS), size, rng=rng)
    persona = rng.choice(list(cast))
    side = rng.choice((0.0, 0.35))
    box = (size[0] * side, size[1] * 0.1, size[0] * (side + 0.65), float(size[1]))
    draw_figure(panel, persona, box=box, paints=paints(persona, style=style, rng=rng), rng=rng)
    canvas = ImageDraw.Draw(panel)
    x, y = size[0] * (0.78 if side == 0.0 else 0.22), size[1] * 0.26
    wide, high = size[0] * 0.2, size[1] * 0.2
    canvas.ellipse(
        (x - wide, y - high, x + wide, y + high), fill=(255, 255, 255), outline=(20, 20, 20)
    )
    for line in (-0.4, 0.0, 0.4):
        reach = wide * rng.uniform(0.35, 0.65)
        canvas.line(
            (x - reach, y + line * high, x + reach, y + line * high), fill=(40, 40, 40), width=2
        )
    return panel


COMPOSITIONS: dict[str, Compose] = {
    "portrait": _portrait,
    "comic": _comic,
    "views": _views,
    "crowd": _crowd,
    "cosplay": _cosplay,
}
"""Composition to the function that draws it."""
