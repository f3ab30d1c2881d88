"""
Draws one figure: random proportions, framing and pose, then every part from back to front.

A function `draw_…` of a part takes the pen, then the name of a shape if there are several, then
keyword arguments.
"""

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from scraper.demo.facts.personae import Persona
from scraper.demo.painter import accessory, face, hair, outfit
from scraper.demo.painter.outfit import Body, Point
from scraper.demo.painter.pen import Frame, Pen
from scraper.demo.painter.style import Paints

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""

# Angles of upper and lower arm in degrees: 0 hangs down, positive angles point outwards.
_ARMS: tuple[tuple[float, float], ...] = (
    (12, 8),
    (20, -10),
    (45, -60),
    (35, 130),
    (80, 100),
    (120, 160),
    (30, -40),
    (60, 20),
)


@dataclass(frozen=True, slots=True)
class Pose:
    """Proportions, framing and pose of one figure in its box."""

    heads: float
    """Height of the whole figure, in heads."""
    visible: float
    """Height of the part that fits into the box, in heads."""
    lean: float
    """Rotation of the figure, in radians."""
    tilt: float
    """Rotation of the head about the neck, in radians."""
    turn: float
    """Direction of the face, from -1 (left) to 1 (right)."""
    mirrored: bool
    shift: Point
    """Displacement of the head, as a share of the box's width and height."""
    bare: bool
    """Whether the accessory is left out."""

    @classmethod
    def drawn(cls, rng: random.Random) -> "Pose":
        """Returns a random pose: 42 % busts, 30 % from the knees up, 28 % full bodies."""
        heads = rng.choice((2.3, 2.8, 3.4, 4.2, 5.2))
        framing = rng.random()
        if framing < 0.42:
            visible = rng.uniform(1.45, 2.3)
        elif framing < 0.72:
            visible = max(2.0, heads * rng.uniform(0.6, 0.85) + 0.3)
        else:
            visible = heads + rng.uniform(0.5, 1.2)
        return cls(
            heads=heads,
            visible=visible,
            lean=rng.gauss(0.0, 0.09),
            tilt=rng.gauss(0.0, 0.09),
            turn=rng.uniform(-1.0, 1.0),
            mirrored=rng.random() < 0.5,
            shift=(rng.uniform(-0.17, 0.17), rng.uniform(-0.05, 0.08)),
            bare=rng.random() < 0.14,
        )


def draw_figure(
    image: Image.Image,
    persona: Persona,
    *,
    box: Box,
    paints: Paints,
    rng: random.Random,
    clothes: str | None = None,
) -> None:
    """
    Draws a persona into a box of an image.

    Args:
        image: RGB image, changed in place.
        persona: The persona.
        box: Part of the image for the figure. The drawing is not clipped at the box; to clip it,
            draw on an image of the box's size.
        paints: Colours and line of the figure.
        rng: Random stream of pose and expression.
        clothes: Cut of the clothes, a key of `outfit.OUTFITS`; None takes the persona's own.
    """
    pose = Pose.drawn(rng)
    left, top, right, bottom = box
    scale = min((bottom - top) / pose.visible, (right - left) * 0.62)
    x = (left + right) / 2 + pose.shift[0] * (right - left)
    y = top + scale * 0.95 + pose.shift[1] * (bottom - top)
    if pose.visible > pose.heads + 0.5:
        y += max(0.0, (bottom - top) - pose.visible * scale) * 0.6
    frame = Frame.placed(x, y, scale=scale, turn=pose.lean, mirrored=pose.mirrored)
    pen = Pen(ImageDraw.Draw(image), frame, paints)
    head = pen.within(frame.turned(pose.tilt, about=(0.0, 0.5)))
    body = _body(pose, rng)
    sway = rng.gauss(0.0, 0.12)
    cut = clothes or persona.outfit
    outfit.draw_behind(pen, cut, body=body)
    shape = persona.other_hair if rng.random() < 0.13 else persona.hair
    hair.draw_back(head, shape, sway=sway)
    outfit.draw_outfit(pen, cut, body=body)
    if not pose.bare:
        accessory.draw_carried(pen, persona.accessory, body=body)
    face.draw_head(head)
    face.draw_features(head, turn=pose.turn, rng=rng)
    hair.draw_bangs(head, persona.bangs, turn=pose.turn)
    if not pose.bare:
        accessory.draw_worn(head, persona.accessory, turn=pose.turn)


def _body(pose: Pose, rng: random.Random) -> Body:
    rest = pose.heads - 1.0
    half = min(0.52, 0.24 + 0.07 * rest)
    shoulder = 0.56 + 0.025 * rest
    waist = 0.5 + rest * 0.32
    hip = 0.5 + rest * 0.43
    waist, hip = max(waist, shoulder + 0.3), max(hip, shoulder + 0.46)
    reach = 0.28 + 0.16 * rest
    arms = tuple(_arm(side, half, shoulder, reach, rng) for side in (-1, 1))
    return Body(
        shoulder=shoulder,
        half=half,
        waist=waist,
        hip=hip,
        foot=max(0.5 + rest, hip + 0.4),
        stance=half * rng.uniform(0.35, 1.1),
        arms=(arms[0], arms[1]),
    )


def _arm(
    side: int, half: float, shoulder: float, reach: float, rng: random.Random
) -> tuple[Point, Point, Point]:
    upper, lower = rng.choice(_ARMS)
    first = math.radians(upper + rng.gauss(0.0, 8.0))
    second = math.radians(lower + rng.gauss(0.0, 8.0))
    start = (side * half * 0.95, shoulder + 0.1)
    elbow = (start[0] + side * math.sin(first) * reach, start[1] + math.cos(first) * reach)
    hand = (elbow[0] + side * math.sin(second) * reach, elbow[1] + math.cos(second) * reach)
    return start, elbow, hand
