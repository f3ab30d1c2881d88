"""A small canvas for drawings in SVG: boxes, arrows and text on a light panel of its own."""

from dataclasses import dataclass, field
from html import escape

FILLS = {
    "shared": "#cfe0f7",
    "own": "#fbe3c8",
    "output": "#d6eed8",
    "plain": "#eef0f3",
}
INK, LINE = "#1c2430", "#5b6675"


@dataclass
class Canvas:
    """
    A drawing of `width` by `height` units.

    The panel behind it is light and the ink dark, so that it is legible on a dark page too.
    """

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        text: str = "",
        *,
        fill: str = "plain",
    ) -> None:
        """Draws a rectangle with centred lines of text."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" '
            f'fill="{FILLS.get(fill, fill)}" stroke="{LINE}"/>'
        )
        self._lines(x + width / 2, y + height / 2, text)

    def ellipse(self, x: float, y: float, width: float, height: float, text: str = "") -> None:
        """Draws an ellipse (a label) with centred text."""
        self.parts.append(
            f'<ellipse cx="{x + width / 2:g}" cy="{y + height / 2:g}" rx="{width / 2:g}" '
            f'ry="{height / 2:g}" fill="{FILLS["output"]}" stroke="{LINE}"/>'
        )
        self._lines(x + width / 2, y + height / 2, text)

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """Draws a line through the points with a head at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.4"{dash} '
            'marker-end="url(#head)"/>'
        )

    def line(self, *points: tuple[float, float], colour: str = LINE, width: float = 1.4) -> None:
        """Draws a line through the points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 12,
        anchor: str = "middle",
        colour: str = INK,
    ) -> None:
        """Writes one line of text."""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}" '
            f'fill="{colour}">{escape(text)}</text>'
        )

    def render(self) -> str:
        """Returns the drawing as a file."""
        head = (
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{LINE}"/>'
            "</marker></defs>"
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" role="img"',
                f' viewBox="0 0 {self.width} {self.height}" font-family="sans-serif">',
                f"<title>{escape(self.title)}</title>",
                head,
                f'<rect width="{self.width}" height="{self.height}" rx="6" fill="#ffffff"/>',
                *self.parts,
                "</svg>\n",
            ]
        )

    def _lines(self, x: float, y: float, text: str) -> None:
        lines = text.split("\n")
        for number, line in enumerate(lines):
            self.text(x, y + 4 + 15 * (number - (len(lines) - 1) / 2), line)
