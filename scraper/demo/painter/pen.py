"""
A pen over a canvas: shapes in units of one head height, placed by a frame, in given paints.

The frame maps figure coordinates (origin at the centre of the head, y downwards, one unit = one
head) to pixels: scale, turn, mirror, shift. Coordinates are rounded to whole pixels, so that a
drawing does not depend on the last bit of a float.
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

_STEPS = 4


@dataclass(frozen=True, slots=True)
class Frame:
    """An affine map from figure units to pixels."""

    a: float
    b: float
    c: float
    d: float
    x: float
    y: float

    @classmethod
    def placed(cls, x: float, y: float, *, scale: float, turn: float, mirrored: bool) -> "Frame":
        """Returns the frame with the head's centre at pixel (x, y), turned by radians."""
        cosine, sine, side = math.cos(turn) * scale, math.sin(turn) * scale, -1 if mirrored else 1
        return cls(a=cosine * side, b=-sine, c=sine * side, d=cosine, x=x, y=y)

    def turned(self, turn: float, *, about: tuple[float, float]) -> "Frame":
        """Returns this frame with the figure first turned by radians about a figure point."""
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
        """Returns x, y, x, y, … in whole pixels, as Pillow takes them."""
        matrix = np.array(((self.a, self.c), (self.b, self.d)))
        moved = points @ matrix + (self.x, self.y)
        flat: list[int] = np.rint(moved).astype(np.int64).ravel().tolist()
        return flat


class Pen:
    """Draws filled, outlined shapes of one figure."""

    def __init__(self, canvas: ImageDraw.ImageDraw, frame: Frame, paints: Paints) -> None:
        self.canvas = canvas
        self.frame = frame
        self.paints = paints

    def within(self, frame: Frame) -> "Pen":
        """Returns a pen for the same canvas in another frame."""
        return Pen(self.canvas, frame, self.paints)

    def shape(
        self, points: Points, fill: Colour, *, smooth: bool = False, outlined: bool = True
    ) -> None:
        """Draws a closed shape; `smooth` rounds it through its points."""
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
        if outlined and self.paints.line_width >= 0.5:
            width = max(1, round(self.paints.line_width * self.frame.scale / 90))
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
        """Draws an ellipse of the given radii, turned by radians."""
        cosine, sine = math.cos(turn), math.sin(turn)
        points = _circle() * radii
        turned = points @ np.array(((cosine, sine), (-sine, cosine)))
        self.shape(turned + centre, fill, outlined=outlined)

    def limb(self, points: Points, width: float, fill: Colour) -> None:
        """Draws a thick bent line with round ends: a sleeve, a leg, a tail."""
        flat = self.frame.pixels(np.asarray(points, dtype=np.float64))
        thick = max(2, round(width * self.frame.scale))
        edge = max(1, round(self.paints.line_width * self.frame.scale / 90))
        passes = [(thick, fill)]
        if self.paints.line_width >= 0.5:
            passes.insert(0, (thick + 2 * edge, self.ink(fill)))
        for size, colour in passes:
            self.canvas.line(flat, fill=colour, width=size, joint="curve")
            radius = size / 2
            for x, y in ((flat[0], flat[1]), (flat[-2], flat[-1])):
                self.canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def stroke(self, points: Points, colour: Colour, width: float = 0.025) -> None:
        """Draws an open line; `width` in heads."""
        flat = self.frame.pixels(np.asarray(points, dtype=np.float64))
        self.canvas.line(flat, fill=colour, width=max(1, round(width * self.frame.scale)))

    def ink(self, fill: Colour) -> Colour:
        """Returns the outline colour around a fill."""
        return mix(self.paints.line, darker(fill, 0.5), 0.4)


@lru_cache(maxsize=1)
def _circle() -> npt.NDArray[np.float64]:
    angles = np.arange(20) * (2 * math.pi / 20)
    return np.stack((np.cos(angles), np.sin(angles)), axis=1)


@lru_cache(maxsize=64)
def _spline(count: int) -> npt.NDArray[np.float64]:
    # Closed Catmull-Rom spline as one matrix: (4 · count points) = matrix @ (count points).
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
