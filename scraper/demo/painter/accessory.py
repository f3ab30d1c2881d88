"""
Accessories: objects that a persona wears on the head or carries, one function per object.

They are the small details in which look-alikes differ. Coordinates are in heads, with the origin
at the centre of the head, x to the right and y downwards.
"""

from collections.abc import Callable

from scraper.demo.painter.outfit import Body
from scraper.demo.painter.pen import Pen
from scraper.demo.painter.style import darker

Point = tuple[float, float]


def draw_carried(pen: Pen, accessory: str, *, body: Body) -> None:
    """
    Draws an accessory over the body. Draws nothing if the accessory is worn on the head.

    Args:
        pen: Pen in the frame of the figure.
        accessory: Any accessory; only the keys of `CARRIED` are drawn.
        body: Proportions and pose of the figure.
    """
    if accessory in CARRIED:
        CARRIED[accessory](pen, body)


def draw_worn(pen: Pen, accessory: str, *, turn: float) -> None:
    """
    Draws an accessory on the head. Draws nothing if the accessory is carried.

    Args:
        pen: Pen in the frame of the head.
        accessory: Any accessory; only the keys of `WORN` are drawn.
        turn: Direction of the face, from -1 (left) to 1 (right).
    """
    if accessory in WORN:
        WORN[accessory](pen, turn)


def _scarf(pen: Pen, body: Body) -> None:
    fill = pen.paints.accessory
    pen.shape([(-0.42, 0.42), (0.42, 0.42), (0.46, 0.68), (-0.46, 0.68)], fill, smooth=True)
    low = body.waist + 0.1
    pen.shape([(0.1, 0.6), (0.36, 0.56), (0.52, low), (0.26, low + 0.06)], darker(fill, 0.9))


def _sword(pen: Pen, body: Body) -> None:
    hand = body.arms[1][2]
    tip = (hand[0] + 0.5, hand[1] - 1.5)
    pen.limb([hand, tip], 0.1, pen.paints.accessory)
    middle = (hand[0] + 0.09, hand[1] - 0.27)
    pen.limb(
        [(middle[0] - 0.24, middle[1] - 0.08), (middle[0] + 0.24, middle[1] + 0.08)],
        0.09,
        pen.paints.accent,
    )


def _hairband(pen: Pen, turn: float) -> None:
    arc: list[Point] = [(-0.53, -0.16), (-0.36, -0.44), (0.0, -0.56), (0.36, -0.44), (0.53, -0.16)]
    pen.limb([(x + turn * 0.03, y) for x, y in arc], 0.07, pen.paints.accessory)


def _horns(pen: Pen, turn: float) -> None:
    for side in (-1, 1):
        horn: list[Point] = [(0.2, -0.5), (0.36, -0.44), (0.46, -0.76)]
        pen.shape([(side * x + turn * 0.05, y) for x, y in horn], pen.paints.accessory)


def _glasses(pen: Pen, turn: float) -> None:
    fill = pen.paints.accessory
    for side in (-1, 1):
        x = turn * 0.13 + side * 0.22
        box: list[Point] = [
            (x - 0.17, -0.04),
            (x + 0.17, -0.04),
            (x + 0.15, 0.24),
            (x - 0.15, 0.24),
            (x - 0.17, -0.04),
        ]
        pen.stroke(box, fill, 0.045)
    pen.stroke([(turn * 0.13 - 0.06, 0.04), (turn * 0.13 + 0.06, 0.04)], fill, 0.045)


def _headdress(pen: Pen, turn: float) -> None:
    for x, y in ((-0.4, -0.42), (-0.22, -0.54), (0.0, -0.6), (0.22, -0.54), (0.4, -0.42)):
        pen.oval((x + turn * 0.04, y), (0.13, 0.12), pen.paints.accessory)


def _tophat(pen: Pen, turn: float) -> None:
    fill, x = pen.paints.accessory, 0.1 + turn * 0.05
    pen.shape([(x - 0.2, -0.5), (x + 0.22, -0.46), (x + 0.26, -0.88), (x - 0.22, -0.92)], fill)
    pen.oval((x, -0.49), (0.36, 0.08), fill, turn=0.1)
    pen.stroke([(x - 0.2, -0.6), (x + 0.23, -0.57)], pen.paints.accent, 0.07)


def _ribbon(pen: Pen, turn: float) -> None:
    fill, x = pen.paints.accessory, 0.34 + turn * 0.05
    pen.shape([(x, -0.52), (x - 0.3, -0.78), (x - 0.28, -0.4)], fill)
    pen.shape([(x, -0.52), (x + 0.3, -0.66), (x + 0.24, -0.3)], fill)


def _catears(pen: Pen, turn: float) -> None:
    for side in (-1, 1):
        ear: list[Point] = [(0.1, -0.52), (0.5, -0.3), (0.46, -0.86)]
        inner: list[Point] = [(0.22, -0.52), (0.42, -0.4), (0.42, -0.72)]
        pen.shape([(side * x + turn * 0.04, y) for x, y in ear], pen.paints.accessory)
        pen.shape([(side * x + turn * 0.04, y) for x, y in inner], (250, 220, 220), outlined=False)


def _halo(pen: Pen, turn: float) -> None:
    pen.oval((turn * 0.05, -0.78), (0.42, 0.12), pen.paints.accessory)
    pen.oval((turn * 0.05, -0.78), (0.3, 0.06), darker(pen.paints.accessory, 0.5), outlined=False)


def _star(pen: Pen, turn: float) -> None:
    x, y = 0.34 + turn * 0.06, -0.26
    points: list[Point] = [(0, -0.2), (0.05, -0.06), (0.2, -0.06), (0.08, 0.03), (0.13, 0.18)]
    points += [(0, 0.09), (-0.13, 0.18), (-0.08, 0.03), (-0.2, -0.06), (-0.05, -0.06)]
    pen.shape([(x + dx, y + dy) for dx, dy in points], pen.paints.accessory)


def _circlet(pen: Pen, turn: float) -> None:
    x = turn * 0.1
    arc: list[Point] = [
        (x - 0.46, -0.2),
        (x - 0.2, -0.27),
        (x, -0.22),
        (x + 0.2, -0.27),
        (x + 0.46, -0.2),
    ]
    pen.limb(arc, 0.045, pen.paints.accessory)
    pen.oval((x, -0.2), (0.07, 0.08), pen.paints.eyes)


def _eyepatch(pen: Pen, turn: float) -> None:
    x = turn * 0.13 + 0.21
    pen.stroke([(-0.45, -0.22), (x, 0.02), (0.5, 0.2)], pen.paints.accessory, 0.035)
    pen.oval((x, 0.07), (0.15, 0.15), pen.paints.accessory)


def _headphones(pen: Pen, turn: float) -> None:
    arc: list[Point] = [(-0.56, 0.0), (-0.5, -0.36), (0.0, -0.64), (0.5, -0.36), (0.56, 0.0)]
    pen.limb([(x + turn * 0.02, y) for x, y in arc], 0.06, pen.paints.accessory)
    for side in (-1, 1):
        pen.oval((side * 0.56, 0.08), (0.12, 0.18), pen.paints.accessory)


CARRIED: dict[str, Callable[[Pen, Body], None]] = {"scarf": _scarf, "sword": _sword}
"""Accessories over the body: name to the function that draws it."""

WORN: dict[str, Callable[[Pen, float], None]] = {
    "hairband": _hairband,
    "horns": _horns,
    "glasses": _glasses,
    "headdress": _headdress,
    "tophat": _tophat,
    "ribbon": _ribbon,
    "catears": _catears,
    "halo": _halo,
    "star": _star,
    "circlet": _circlet,
    "eyepatch": _eyepatch,
    "headphones": _headphones,
}
"""Accessories on the head: name to the function that draws it for a direction of the face."""
