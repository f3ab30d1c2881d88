"""
The parts that several sections of the page consist of: tables, figures and sections.

A part holds text and numbers and no markup; `templates/blocks.html` holds its markup.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from train.page.figures import Drawing

BROWSE_PAGE = "http://127.0.0.1:8423/"
"""Address of `python -m curation browse`, whose parameters docs/browse.md describes."""
_FALLBACK_WIDTH = "480pt"


@dataclass(frozen=True, slots=True)
class ReportTable:
    """
    A table with its caption; every cell is text, and a newline in a cell starts a new line.

    Columns whose index is in `words` hold words and align left; all others hold numbers. Rows
    whose index is in `marked` are emphasised. The first cell of a row is the row's heading. `links`
    gives the address that a cell leads to, by the indices of its row and column.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    words: frozenset[int]
    marked: frozenset[int]
    links: Mapping[tuple[int, int], str]


@dataclass(frozen=True, slots=True)
class CellLink:
    """A link over one cell of a matrix; its box in percent of the figure."""

    address: str
    title: str
    left: str
    top: str
    width: str
    height: str


@dataclass(frozen=True, slots=True)
class ReportFigure:
    """A drawing with the sentence below it, and the links of its cells if it is a matrix."""

    drawing: Drawing
    note: str = ""
    cells: tuple[CellLink, ...] = ()

    @property
    def natural_width(self) -> str:
        """The width at which the drawing was made, as a CSS length."""
        width = re.search(r'width="([\d.]+pt)"', self.drawing.svg)
        return width.group(1) if width else _FALLBACK_WIDTH


def browse_address(**filters: str) -> str:
    """Returns the address of the browse page with these filters."""
    return f"{BROWSE_PAGE}?{urlencode(filters)}"


@dataclass(frozen=True, slots=True)
class FigureGroup:
    """Figures of several runs: those shown at once, and those that a reader opens."""

    shown: tuple[ReportFigure, ...]
    folded: tuple[ReportFigure, ...]

    @property
    def title(self) -> str:
        """The line that opens the folded figures."""
        return f"{'The other runs' if self.shown else 'Every run'} ({len(self.folded)})"


@dataclass(frozen=True, slots=True)
class PageSection:
    """One section of the page. `templates/ANCHOR.html` renders `content`."""

    anchor: str
    title: str
    content: object


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str,
    words: Iterable[int] = (0,),
    marked: Iterable[int] = (),
    links: Mapping[tuple[int, int], str] | None = None,
) -> ReportTable:
    """
    Returns a table whose headings keep a unit on the line of the word before it.

    Raises:
        ValueError: A row has more or fewer cells than `head`.
    """
    cells = tuple(tuple(row) for row in rows)
    for row in cells:
        if len(row) != len(head):
            raise ValueError(f"A row has {len(row)} cells and its table {len(head)} columns: {row}")
    headings = tuple(re.sub(r", (%|s|ms|M)$", ",\u00a0\\1", heading) for heading in head)
    return ReportTable(headings, cells, caption, frozenset(words), frozenset(marked), links or {})


def group(
    drawings: Mapping[str, Drawing], notes: Mapping[str, str], leading: Sequence[str]
) -> FigureGroup:
    """Returns the figures of the runs in `leading` as shown, and those of all others as folded."""
    figures = {name: ReportFigure(drawing, notes[name]) for name, drawing in drawings.items()}
    return FigureGroup(
        shown=tuple(figure for name, figure in figures.items() if name in leading),
        folded=tuple(figure for name, figure in figures.items() if name not in leading),
    )
