"""
A pen draws shapes on a canvas, in units of one head height, with the paints of one figure.

A frame maps figure coordinates (origin at the centre of the head, y downwards, one unit = one
head) to pixels by scale, rotation, reflection and shift. Coordinates are rounded to whole pixels,
so that a drawing does not depend on the last bit of a float.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import ImageDraw

from scraper.demo.facts.personae import Colour
from scraper.demo.painter.style import Paints, darker, mix

Points = Sequence[tuple[float, float]] | npt.NDArray[np.float64]
"""Points (x, y) in heads, or an array `[point, 2]` of them."""

_STEPS = 4
"""Points of a smooth curve per point of the shape."""
_LEAST_LINE = 0.5
"""Thinner outlines are not drawn."""
_LINE_HEAD = 90
"""Pixels per head at which `Paints.line_width` is the width in pixels."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The affine map (u, v) ↦ (a·u + b·v + x, c·u + d·v + y) from heads to pixels."""

    a: float
    b: float
    c: float
    d: float
    x: float
    y: float

    @classmethod
    def placed(cls, x: float, y: float, *, scale: float, turn: float, mirrored: bool) -> "Frame":
        """
        Returns the frame of a figure.

        Args:
            x: Horizontal position of the head's centre, in pixels.
            y: Vertical position of the head's centre, in pixels.
            scale: Pixels per head.
            turn: Rotation in radians, clockwise as y points downwards.
            mirrored: Whether left and right are exchanged.
        """
        cosine, sine, side = math.cos(turn) * scale, math.sin(turn) * scale, -1 if mirrored else 1
        return cls(a=cosine * side, b=-sine, c=sine * side, d=cosine, x=x, y=y)

    def turned(self, turn: float, *, about: tuple[float, float]) -> "Frame":
        """
        Returns this frame for a figure that is rotated first.

        Args:
            turn: Rotation in radians.
            about: Centre of the rotation, in heads.
        """
        cosine, sine = math.cos(turn), math.sin(turn)
        shift_x = about[0] - cosine * about[0] + sine * about[1]
        shift_y = about[1] - sine * about[0] - cosine * about[1]
        return Frame(
            a=self.a * cosine + self.b * sine,
            b=self.b * cosine - self.a * sine,
            c=self.c * cosine + self.d * sine,
            d=self.d * cosine - self.c * sine,
            x=self.x + self.a * shift_x + self.b * shift_y,
            y=self.y + self.c * shift_x + self.d * shift_y,
        )

    @property
    def scale(self) -> float:
        """Pixels per head."""
        return math.hypot(self.a, self.c)

    def pixels(self, points: npt.NDArray[np.float64]) -> list[int]:
        """Returns points `[point, 2]` in heads as whole pixels x, y, x, y, …, as Pillow takes them."""
        matrix = np.array(((self.a, self.c), (self.b, self.d)))
        moved = points @ matrix + (self.x, self.y)
        flat: list[int] = np.rint(moved).astype(np.int64).ravel().tolist()
        return flat


class Pen:
    """Draws the filled and outlined shapes of one figure."""

    def __init__(self, canvas: ImageDraw.ImageDraw, frame: Frame, paints: Paints) -> None:
        """Takes the canvas to draw on, the map from heads to pixels, and the figure's colours."""
        self.canvas = canvas
        self.frame = frame
        self.paints = paints

    def within(self, frame: Frame) -> "Pen":
        """Returns a pen for the same canvas in another frame."""
        return Pen(self.canvas, frame, self.paints)

    def shape(
        self, points: Points, fill: Colour, *, smooth: bool = False, outlined: bool = True
    ) -> None:
        """
        Draws a closed shape.

        Args:
            points: Corners in heads.
            fill: Colour of the area; a shaded style adds a darker rim.
            smooth: Whether a curve through the points replaces the straight edges.
            outlined: Whether the shape gets an outline and a shadow.
        """
        corners = np.asarray(points, dtype=np.float64)
        if smooth:
            corners = _spline(len(corners)) @ corners
        flat = self.frame.pixels(corners)
        if self.paints.shaded and outlined:
            self.canvas.polygon(flat, fill=darker(fill))
            centre = corners.mean(axis=0)
            inner = centre + (corners - centre) * 0.84 + (-0.03, -0.02)
            self.canvas.polygon(self.frame.pixels(inner), fill=fill)
        else:
            self.canvas.polygon(flat, fill=fill)
        if outlined and self.paints.line_width >= _LEAST_LINE:
            width = max(1, round(self.paints.line_width * self.frame.scale / _LINE_HEAD))
            self.canvas.line(flat + flat[:2], fill=self.ink(fill), width=width)

    def oval(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        fill: Colour,
        *,
        turn: float = 0.0,
        outlined: bool = True,
    ) -> None:
        """
        Draws an ellipse.

        Args:
            centre: Centre in heads.
            radii: Horizontal and vertical radius in heads, before the rotation.
            fill: Colour of the area.
            turn: Rotation in radians.
            outlined: Whether the ellipse gets an outline and a shadow.
        """
        cosine, sine = math.cos(turn), math.sin(turn)
        points = _circle() * radii
        turned = points @ np.array(((cosine, sine), (-sine, cosine)))
        self.shape(turned + centre, fill, outlined=outlined)

    def limb(self, points: Points, width: float, fill: Colour) -> None:
        """Draws a thick bent line with round ends, such as a sleeve: points and width in heads."""
        flat = self.frame.pixels(np.asarray(points, dtype=np.float64))
        thick = max(2, round(width * self.frame.scale))
        edge = max(1, round(self.paints.line_width * self.frame.scale / _LINE_HEAD))
        passes = [(thick, fill)]
        if self.paints.line_width >= _LEAST_LINE:
            passes.insert(0, (thick + 2 * edge, self.ink(fill)))
        for size, colour in passes:
            self.canvas.line(flat, fill=colour, width=size, joint="curve")
            radius = size / 2
            for x, y in ((flat[0], flat[1]), (flat[-2], flat[-1])):
                self.canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def stroke(self, points: Points, colour: Colour, width: float = 0.025) -> None:
        """Draws an open line: points and width in heads."""
        flat = self.frame.pixels(np.asarray(points, dtype=np.float64))
        self.canvas.line(flat, fill=colour, width=max(1, round(width * self.frame.scale)))

    def ink(self, fill: Colour) -> Colour:
        """Returns the colour of the outline around an area of colour `fill`."""
        return mix(self.paints.line, darker(fill, 0.5), 0.4)


@lru_cache(maxsize=1)
def _circle() -> npt.NDArray[np.float64]:
    # 20 corners look round at the sizes drawn; more would only take longer.
    angles = np.arange(20) * (2 * math.pi / 20)
    return np.stack((np.cos(angles), np.sin(angles)), axis=1)


@lru_cache(maxsize=64)
def _spline(count: int) -> npt.NDArray[np.float64]:
    # Uniform Catmull-Rom spline (Catmull, Rom: A class of local interpolating splines, 1974),
    # closed, as one matrix: curve [4 · count, 2] = matrix [4 · count, count] @ points [count, 2].
    matrix = np.zeros((count * _STEPS, count))
    for start in range(count):
        for step in range(_STEPS):
            t = step / _STEPS
            weights = (
                -0.5 * t + t * t - 0.5 * t**3,
                1 - 2.5 * t * t + 1.5 * t**3,
                0.5 * t + 2 * t * t - 1.5 * t**3,
                -0.5 * t * t + 0.5 * t**3,
            )
            for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
                matrix[start * _STEPS + step, (start + offset) % count] += weight
    return matrix
