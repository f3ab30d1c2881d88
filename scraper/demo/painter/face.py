"""
The face: head, eyes, brows, mouth and blush, with a random expression.

Coordinates are in heads, with the origin at the centre of the head, x to the right, y downwards.
"""

import random

from scraper.demo.painter.pen import Pen
from scraper.demo.painter.style import darker, mix

MOUTHS = ("smile", "open", "neutral", "frown", "cat")
"""Shapes of the mouth, equally likely."""


def draw_head(pen: Pen) -> None:
    """Draws the head without features: a round skull and a small chin."""
    outline = [(0.0, -0.5), (-0.36, -0.36), (-0.47, 0.0), (-0.36, 0.32), (-0.1, 0.49)]
    outline += [(0.1, 0.49), (0.36, 0.32), (0.47, 0.0), (0.36, -0.36)]
    pen.shape(outline, pen.paints.skin, smooth=True)


def draw_features(pen: Pen, *, turn: float, rng: random.Random) -> None:
    """
    Draws eyes, brows, mouth and blush.

    Args:
        pen: Pen in the frame of the head.
        turn: Direction of the face, from -1 (left) to 1 (right).
        rng: Random stream of the expression.
    """
    shift = turn * 0.13
    closed = rng.random() < 0.1
    size = rng.uniform(0.9, 1.12)
    tilt = rng.uniform(-0.03, 0.03)
    ink = darker(pen.paints.line, 0.8)
    for side in (-1, 1):
        x = shift + side * 0.21 * (1.0 - 0.25 * max(0.0, side * turn))
        width = 0.105 * size * (1.0 - 0.3 * max(0.0, side * turn))
        if closed:
            pen.stroke([(x - width, 0.08), (x, 0.13), (x + width, 0.08)], ink, 0.03)
        else:
            _eye(pen, x, width, 0.15 * size)
        pen.stroke([(x - 0.1, -0.12 + side * tilt), (x + 0.1, -0.12 - side * tilt)], ink, 0.018)
    if rng.random() < 0.6:
        blush = mix(pen.paints.skin, (236, 110, 110), 0.35)
        for side in (-1, 1):
            pen.oval((shift + side * 0.27, 0.23), (0.07, 0.035), blush, outlined=False)
    _mouth(pen, shift, rng.choice(MOUTHS))


def _eye(pen: Pen, x: float, width: float, height: float) -> None:
    eyes, ink = pen.paints.eyes, darker(pen.paints.line, 0.7)
    pen.oval((x, 0.08), (width, height), (252, 252, 252), outlined=False)
    pen.oval((x, 0.09), (width * 0.86, height * 0.92), eyes, outlined=False)
    pen.oval((x, 0.1), (width * 0.38, height * 0.5), darker(eyes, 0.4), outlined=False)
    pen.oval((x - width * 0.3, 0.02), (0.032, 0.04), (255, 255, 255), outlined=False)
    top = 0.08 - height
    pen.stroke([(x - width, top + 0.06), (x, top), (x + width, top + 0.06)], ink, 0.04)


def _mouth(pen: Pen, x: float, mouth: str) -> None:
    ink = darker(pen.paints.line, 0.9)
    if mouth == "open":
        pen.oval((x, 0.34), (0.06, 0.06), (170, 60, 70))
    elif mouth == "smile":
        pen.stroke([(x - 0.08, 0.32), (x, 0.36), (x + 0.08, 0.32)], ink)
    elif mouth == "frown":
        pen.stroke([(x - 0.06, 0.36), (x, 0.33), (x + 0.06, 0.36)], ink)
    elif mouth == "cat":
        pen.stroke(
            [(x - 0.1, 0.32), (x - 0.05, 0.36), (x, 0.33), (x + 0.05, 0.36), (x + 0.1, 0.32)], ink
        )
    else:
        pen.stroke([(x - 0.05, 0.34), (x + 0.05, 0.34)], ink)
