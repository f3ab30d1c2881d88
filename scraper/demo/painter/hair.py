"""
Hair: the part behind the head, one function per shape, and the bangs over the forehead.

Coordinates are in heads, with the origin at the centre of the head, x to the right and y
downwards. The radius of the head is 0.5.
"""

from collections.abc import Callable

from scraper.demo.painter.pen import Pen
from scraper.demo.painter.style import darker, mix

Point = tuple[float, float]


def draw_back(pen: Pen, shape: str, *, sway: float) -> None:
    """
    Draws the hair behind the head.

    Args:
        pen: Pen in the frame of the head.
        shape: A key of `BACKS`.
        sway: Displacement of the loose ends, in heads to the right.
    """
    BACKS[shape](pen, sway)


def draw_bangs(pen: Pen, shape: str, *, turn: float) -> None:
    """
    Draws the hair over the forehead.

    Args:
        pen: Pen in the frame of the head.
        shape: A key of `BANGS`.
        turn: Direction of the face, from -1 (left) to 1 (right).
    """
    fill = pen.paints.hair
    shift = turn * 0.08
    crown: list[Point] = [(0.49, 0.1), (0.54, -0.12), (0.4, -0.44), (0.0, -0.58)]
    crown += [(-0.4, -0.44), (-0.54, -0.12), (-0.49, 0.1)]
    fringe = [(x + shift, y) for x, y in BANGS[shape]]
    pen.shape(crown + fringe, fill)
    gloss = mix(fill, (255, 255, 255), 0.3)
    pen.stroke(
        [(-0.32 + shift, -0.3), (-0.12, -0.38), (0.12, -0.38), (0.3 + shift, -0.3)], gloss, 0.05
    )
    for x, y in fringe[2:-1:2]:
        pen.stroke([(x, y), (x * 0.6, y - 0.22)], darker(fill, 0.7), 0.015)


def _cap(pen: Pen) -> None:
    pen.oval((0.0, -0.06), (0.56, 0.55), darker(pen.paints.hair, 0.86))


def _long(pen: Pen, sway: float) -> None:
    fill = darker(pen.paints.hair, 0.86)
    left: list[Point] = [(-0.5, -0.3), (-0.6, 0.3), (-0.66 + sway, 1.1), (-0.5 + sway, 1.75)]
    right: list[Point] = [(0.5 + sway, 1.75), (0.66 + sway, 1.1), (0.6, 0.3), (0.5, -0.3)]
    pen.shape([(0.0, -0.6), *left, (sway, 1.6), *right], fill, smooth=True)


def _bob(pen: Pen, sway: float) -> None:
    fill = darker(pen.paints.hair, 0.86)
    half: list[Point] = [(-0.52, -0.3), (-0.66, 0.2), (-0.62 + sway / 3, 0.62), (-0.3, 0.6)]
    other: list[Point] = [(0.3, 0.6), (0.62 + sway / 3, 0.62), (0.66, 0.2), (0.52, -0.3)]
    pen.shape([(0.0, -0.6), *half, *other], fill, smooth=True)


def _twintails(pen: Pen, sway: float) -> None:
    fill = darker(pen.paints.hair, 0.92)
    for side in (-1, 1):
        tail: list[Point] = [(0.42, -0.36), (0.8, -0.3), (1.02, 0.3), (0.98, 0.95), (0.72, 1.6)]
        tail += [(0.74, 0.9), (0.66, 0.2)]
        pen.shape([(side * x + sway * max(0.0, y), y) for x, y in tail], fill, smooth=True)
    _cap(pen)


def _drills(pen: Pen, sway: float) -> None:
    fill = darker(pen.paints.hair, 0.95)
    for side in (-1, 1):
        for step in range(5):
            y = -0.1 + 0.3 * step
            x = side * (0.72 + 0.05 * step) + sway * max(0.0, y)
            pen.oval((x, y), (0.27 - 0.042 * step, 0.2), fill, turn=side * 0.35)
    _cap(pen)


def _ponytail(pen: Pen, sway: float) -> None:
    fill = darker(pen.paints.hair, 0.92)
    tail: list[Point] = [(0.2, -0.62), (0.62, -0.78), (1.0, -0.3), (1.02, 0.5), (0.82, 1.2)]
    tail += [(0.76, 0.5), (0.62, -0.2)]
    pen.shape([(x + sway * max(0.0, y), y) for x, y in tail], fill, smooth=True)
    _cap(pen)


def _spiky(pen: Pen, sway: float) -> None:
    spikes: list[Point] = [(0.0, -0.78), (0.2, -0.55), (0.46, -0.68), (0.5, -0.38), (0.78, -0.32)]
    spikes += [(0.6, -0.06), (0.82, 0.2), (0.55, 0.2), (0.6, 0.52), (0.3, 0.35)]
    other = [(-x, y) for x, y in reversed(spikes[1:])]
    every = [*spikes, *other]
    pen.shape([(x + sway * 0.3, y) for x, y in every], darker(pen.paints.hair, 0.9))


def _short(pen: Pen, sway: float) -> None:
    half: list[Point] = [(-0.5, -0.36), (-0.6, 0.08), (-0.5 + sway / 4, 0.4), (-0.22, 0.46)]
    other: list[Point] = [(0.22, 0.46), (0.5 + sway / 4, 0.4), (0.6, 0.08), (0.5, -0.36)]
    pen.shape([(0.0, -0.62), *half, *other], darker(pen.paints.hair, 0.88), smooth=True)


def _buns(pen: Pen, sway: float) -> None:
    fill = darker(pen.paints.hair, 0.95)
    for side in (-1, 1):
        pen.oval((side * 0.46, -0.5), (0.24, 0.24), fill)
        tail: list[Point] = [(0.5, -0.2), (0.66, 0.2), (0.62, 0.7), (0.44, 0.4)]
        pen.shape([(side * x + sway * max(0.0, y), y) for x, y in tail], fill, smooth=True)
    _cap(pen)


BACKS: dict[str, Callable[[Pen, float], None]] = {
    "long": _long,
    "bob": _bob,
    "twintails": _twintails,
    "drills": _drills,
    "ponytail": _ponytail,
    "spiky": _spiky,
    "short": _short,
    "buns": _buns,
}
"""Shape behind the head to the function that draws it with a sway."""

BANGS: dict[str, list[Point]] = {
    "blunt": [
        (-0.42, 0.12),
        (-0.36, -0.1),
        (-0.12, -0.08),
        (0.12, -0.08),
        (0.36, -0.1),
        (0.42, 0.12),
    ],
    "parted": [
        (-0.44, 0.26),
        (-0.36, -0.02),
        (-0.2, -0.2),
        (0.0, -0.42),
        (0.2, -0.2),
        (0.36, -0.02),
        (0.44, 0.26),
    ],
    "swept": [(-0.44, 0.1), (-0.3, -0.24), (-0.1, -0.3), (0.12, -0.14), (0.3, -0.06), (0.44, 0.2)],
    "spiky": [
        (-0.46, 0.2),
        (-0.34, -0.16),
        (-0.22, 0.04),
        (-0.1, -0.2),
        (0.02, 0.02),
        (0.16, -0.2),
        (0.28, 0.04),
        (0.36, -0.16),
        (0.46, 0.2),
    ],
}
"""Shape of the bangs to the lower outline, from left to right."""
