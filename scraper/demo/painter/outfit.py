"""
Clothes: one function per cut, which draws legs, clothes and arms over a body.

Coordinates are in heads, with the origin at the centre of the head, x to the right, y downwards.
"""

from collections.abc import Callable
from dataclasses import dataclass

from scraper.demo.facts.personae import Colour
from scraper.demo.painter.pen import Pen
from scraper.demo.painter.style import darker, mix

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Body:
    """Proportions and pose of one figure, in heads from the centre of its head."""

    shoulder: float
    """y of the shoulders."""
    half: float
    """Half the width of the shoulders."""
    waist: float
    """y of the waist."""
    hip: float
    """y of the hips."""
    foot: float
    """y of the feet."""
    stance: float
    """Half the distance between the feet."""
    arms: tuple[tuple[Point, Point, Point], tuple[Point, Point, Point]]
    """Shoulder, elbow and hand of the left and the right arm."""

    @property
    def thick(self) -> float:
        """Thickness of an arm, in heads."""
        return 0.13 + 0.12 * self.half


def draw_behind(pen: Pen, outfit: str, *, body: Body) -> None:
    """
    Draws the part of the clothes behind the body: the cape of an armour, or nothing.

    Args:
        pen: Pen in the frame of the figure.
        outfit: Cut of the clothes, a key of `OUTFITS`.
        body: Proportions and pose of the figure.
    """
    if outfit != "armour":
        return
    top, low, wide = body.shoulder - 0.05, body.hip + (body.foot - body.hip) * 0.7, body.half
    cape: list[Point] = [(-wide, top), (wide, top), (wide + 0.5, low), (wide * 0.4, low - 0.12)]
    cape += [(-wide * 0.4, low - 0.06), (-wide - 0.5, low)]
    pen.shape(cape, pen.paints.accent)


def draw_outfit(pen: Pen, outfit: str, *, body: Body) -> None:
    """
    Draws legs, clothes and arms.

    Args:
        pen: Pen in the frame of the figure.
        outfit: Cut of the clothes, a key of `OUTFITS`.
        body: Proportions and pose of the figure.
    """
    OUTFITS[outfit](pen, body)


def _legs(pen: Pen, body: Body, *, sock: Colour, share: float, shoe: Colour) -> None:
    width = body.thick * 1.25
    for side in (-1, 1):
        hip, foot = (side * body.half * 0.45, body.hip), (side * body.stance, body.foot - 0.06)
        knee = (
            hip[0] + (foot[0] - hip[0]) * (1 - share),
            hip[1] + (foot[1] - hip[1]) * (1 - share),
        )
        pen.limb([hip, foot], width, pen.paints.skin)
        pen.limb([knee, foot], width, sock)
        pen.oval((foot[0] + side * 0.04, body.foot), (0.15, 0.08), shoe)


def _arms(
    pen: Pen, body: Body, *, sleeve: Colour, share: float, puff: Colour | None = None
) -> None:
    for shoulder, elbow, hand in body.arms:
        pen.limb([shoulder, elbow, hand], body.thick, pen.paints.skin)
        if share > 0.5:
            part = (share - 0.5) * 2
            end = (elbow[0] + (hand[0] - elbow[0]) * part, elbow[1] + (hand[1] - elbow[1]) * part)
            pen.limb([shoulder, elbow, end], body.thick * 1.25, sleeve)
        elif share > 0:
            part = share * 2
            end = (
                shoulder[0] + (elbow[0] - shoulder[0]) * part,
                shoulder[1] + (elbow[1] - shoulder[1]) * part,
            )
            pen.limb([shoulder, end], body.thick * 1.25, sleeve)
        if puff is not None:
            pen.oval(shoulder, (0.2, 0.17), puff)


def _torso(pen: Pen, body: Body, fill: Colour) -> None:
    half = body.half
    pen.limb([(0.0, 0.35), (0.0, body.shoulder)], 0.2, darker(pen.paints.skin, 0.9))
    sides: list[Point] = [(-half, body.shoulder), (half, body.shoulder), (half * 0.72, body.waist)]
    sides += [(half * 0.85, body.hip), (-half * 0.85, body.hip), (-half * 0.72, body.waist)]
    pen.shape(sides, fill)


def _skirt(pen: Pen, body: Body, *, low: float, wide: float, fill: Colour, pleats: Colour) -> None:
    top = body.half * 0.75
    pen.shape([(-top, body.waist), (top, body.waist), (wide, low), (-wide, low)], fill)
    for share in (-0.6, -0.2, 0.2, 0.6):
        pen.stroke([(top * share, body.waist), (wide * share, low)], pleats)


def _sailor(pen: Pen, body: Body) -> None:
    paints, half = pen.paints, body.half
    _legs(pen, body, sock=paints.trim, share=0.62, shoe=darker(paints.trim, 0.6))
    _torso(pen, body, paints.main)
    low = body.hip + (body.foot - body.hip) * 0.3
    _skirt(pen, body, low=low, wide=half + 0.22, fill=paints.trim, pleats=darker(paints.trim))
    pen.stroke([(-half - 0.18, low - 0.07), (half + 0.18, low - 0.07)], paints.main, 0.04)
    _arms(pen, body, sleeve=paints.main, share=0.9)
    top = body.shoulder - 0.08
    collar: list[Point] = [
        (-half - 0.06, top),
        (-0.1, top - 0.04),
        (0.0, top + 0.3),
        (0.1, top - 0.04),
    ]
    collar += [
        (half + 0.06, top),
        (half * 0.9, top + 0.32),
        (0.0, top + 0.44),
        (-half * 0.9, top + 0.32),
    ]
    pen.shape(collar, paints.trim)
    knot = top + 0.4
    pen.shape([(0, knot), (-0.2, knot - 0.1), (-0.2, knot + 0.12)], paints.accent)
    pen.shape([(0, knot), (0.2, knot - 0.1), (0.2, knot + 0.12)], paints.accent)
    pen.shape([(-0.05, knot), (0.05, knot), (0.1, knot + 0.3), (-0.1, knot + 0.3)], paints.accent)


def _apron(pen: Pen, body: Body) -> None:
    paints, half = pen.paints, body.half
    _legs(pen, body, sock=paints.trim, share=0.9, shoe=darker(paints.main, 0.6))
    _torso(pen, body, paints.main)
    low = body.hip + (body.foot - body.hip) * 0.66
    wide = half + 0.5
    bell: list[Point] = [
        (-half * 0.7, body.waist),
        (half * 0.7, body.waist),
        (wide * 0.8, body.hip),
    ]
    bell += [(wide, low), (-wide, low), (-wide * 0.8, body.hip)]
    pen.shape(bell, paints.main)
    inside = wide * 0.62
    front: list[Point] = [(-half * 0.5, body.waist), (half * 0.5, body.waist), (inside, low - 0.12)]
    front += [
        (inside * 0.5, low - 0.04),
        (0, low - 0.12),
        (-inside * 0.5, low - 0.04),
        (-inside, low - 0.12),
    ]
    pen.shape(front, paints.trim)
    _arms(pen, body, sleeve=paints.main, share=0.95, puff=paints.main)
    bib = half * 0.5
    top = body.shoulder + 0.02
    pen.shape(
        [(-bib, top), (bib, top), (bib * 0.9, body.waist), (-bib * 0.9, body.waist)], paints.trim
    )
    pen.shape(
        [
            (-half * 0.8, body.waist - 0.06),
            (half * 0.8, body.waist - 0.06),
            (half * 0.8, body.waist + 0.06),
            (-half * 0.8, body.waist + 0.06),
        ],
        paints.trim,
    )
    pen.oval((0, top + 0.02), (0.08, 0.08), paints.accent)


def _armour(pen: Pen, body: Body) -> None:
    paints, half = pen.paints, body.half
    width = body.thick * 1.45
    for side in (-1, 1):
        foot = (side * body.stance, body.foot - 0.06)
        hip = (side * half * 0.45, body.hip)
        knee = ((hip[0] + foot[0]) / 2, (hip[1] + foot[1]) / 2)
        pen.limb([hip, foot], width, paints.trim)
        pen.limb([knee, foot], width * 1.15, paints.main)
        pen.oval((foot[0] + side * 0.05, body.foot), (0.18, 0.09), darker(paints.main, 0.7))
    _torso(pen, body, paints.trim)
    plate: list[Point] = [(-half, body.shoulder - 0.02), (half, body.shoulder - 0.02)]
    plate += [(half * 0.8, body.waist), (0, body.waist + 0.14), (-half * 0.8, body.waist)]
    pen.shape(plate, paints.main)
    pen.stroke([(0, body.shoulder), (0, body.waist + 0.1)], darker(paints.main, 0.7))
    for side in (-1, 1):
        tasset: list[Point] = [
            (side * 0.06, body.waist + 0.12),
            (side * half * 0.95, body.waist + 0.04),
        ]
        tasset += [(side * (half + 0.18), body.hip + 0.3), (side * 0.14, body.hip + 0.3)]
        pen.shape(tasset, paints.main)
    _arms(pen, body, sleeve=paints.trim, share=1.0)
    for shoulder, elbow, hand in body.arms:
        pen.limb(
            [((elbow[0] + hand[0]) / 2, (elbow[1] + hand[1]) / 2), hand],
            body.thick * 1.4,
            paints.main,
        )
        pen.oval(shoulder, (0.24, 0.2), mix(paints.main, (255, 255, 255), 0.25))


def _frills(pen: Pen, body: Body) -> None:
    paints, half = pen.paints, body.half
    _legs(pen, body, sock=paints.main, share=0.35, shoe=paints.accent)
    _torso(pen, body, paints.main)
    drop = (body.foot - body.hip) * 0.42 + body.hip - body.waist
    for tier, fill in ((3, paints.trim), (2, paints.main), (1, paints.trim)):
        low = body.waist + drop * tier / 3
        wide = half * 0.7 + 0.2 * tier
        hem: list[Point] = [(-half * 0.6, body.waist), (half * 0.6, body.waist), (wide, low)]
        hem += [
            (wide * (0.75 - 0.25 * step), low + (0.07 if step % 2 == 0 else 0.0))
            for step in range(7)
        ]
        pen.shape([*hem, (-wide, low)], fill)
    _arms(pen, body, sleeve=paints.trim, share=0.0, puff=paints.trim)
    for _, elbow, hand in body.arms:
        pen.limb(
            [((elbow[0] + hand[0]) / 2, (elbow[1] + hand[1]) / 2), hand],
            body.thick * 1.3,
            paints.accent,
        )
    top = body.shoulder + 0.14
    pen.shape([(0, top), (-0.3, top - 0.16), (-0.3, top + 0.16)], paints.accent)
    pen.shape([(0, top), (0.3, top - 0.16), (0.3, top + 0.16)], paints.accent)
    pen.oval((0, top), (0.07, 0.07), paints.trim)


def _robe(pen: Pen, body: Body) -> None:
    paints, half = pen.paints, body.half
    low = body.foot - 0.04
    gown: list[Point] = [
        (-half, body.shoulder),
        (half, body.shoulder),
        (half + 0.22, low),
        (-half - 0.22, low),
    ]
    pen.limb([(0.0, 0.35), (0.0, body.shoulder)], 0.2, darker(paints.skin, 0.9))
    pen.shape(gown, paints.main)
    pen.shape(
        [(-half * 0.4, body.shoulder), (half * 0.4, body.shoulder), (0, body.waist)], paints.trim
    )
    sash = [
        (-half, body.waist - 0.1),
        (half, body.waist - 0.1),
        (half, body.waist + 0.12),
        (-half, body.waist + 0.12),
    ]
    pen.shape(sash, paints.accent)
    for shoulder, elbow, hand in body.arms:
        pen.limb([shoulder, elbow, hand], body.thick, paints.skin)
        pen.limb([shoulder, elbow], body.thick * 2.2, paints.main)


def _hoodie(pen: Pen, body: Body) -> None:
    paints, half = pen.paints, body.half
    _legs(pen, body, sock=paints.trim, share=0.25, shoe=paints.accent)
    low = body.hip + 0.3
    pen.shape(
        [
            (-half * 0.9, body.waist),
            (half * 0.9, body.waist),
            (half, low),
            (0.05, low),
            (0, body.hip),
            (-0.05, low),
            (-half, low),
        ],
        paints.accent,
    )
    _torso(pen, body, paints.main)
    _arms(pen, body, sleeve=paints.main, share=0.95)
    pen.shape(
        [
            (-half, body.shoulder),
            (-0.2, body.shoulder - 0.18),
            (0.2, body.shoulder - 0.18),
            (half, body.shoulder),
            (0, body.shoulder + 0.22),
        ],
        paints.main,
    )
    for stripe in (0.4, 0.65):
        y = body.shoulder + (body.hip - body.shoulder) * stripe
        pen.stroke([(-half * 0.72, y), (half * 0.72, y)], paints.trim, 0.06)


OUTFITS: dict[str, Callable[[Pen, Body], None]] = {
    "sailor": _sailor,
    "apron": _apron,
    "armour": _armour,
    "frills": _frills,
    "robe": _robe,
    "hoodie": _hoodie,
}
"""Cut of the clothes to the function that draws it."""
