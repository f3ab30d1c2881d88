"""Tables for people, on a terminal or in a pipe."""

from collections.abc import Collection, Sequence
from typing import Literal, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNLIMITED = 1_000_000  # columns; a pipe has no width


def print_table(
    file: TextIO,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Collection[int] = (),
) -> None:
    """
    Prints aligned columns under their headings.

    Args:
        file: A terminal, where the table fits the width, or any other stream, where no cell is cut.
        headings: One text per column.
        rows: Cells as they are printed; brackets in them are no markup.
        numbers: Positions of the columns that are aligned to the right.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for position, heading in enumerate(headings):
        side: Literal["left", "right"] = "right" if position in numbers else "left"
        table.add_column(Text(heading), justify=side, no_wrap=not file.isatty())
    for row in rows:
        table.add_row(*map(Text, row))
    Console(file=file, width=None if file.isatty() else _UNLIMITED).print(table)
