"""Prints tables as aligned text, on a terminal or in a pipe, and makes foreign text harmless."""

from collections.abc import Collection, Sequence
from typing import Literal, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

# A spreadsheet reads a cell with such a first character as a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_UNLIMITED = 1_000_000  # columns; no line is folded at the width of a terminal


def printable(text: str) -> str:
    """
    Returns `text` with a dot for each character that is not printable; line feeds stay.

    Tags and file names come from outside, and a control character could write on the terminal.
    """
    return "".join(sign if sign.isprintable() or sign == "\n" else "·" for sign in text)


def is_utf8(text: str) -> bool:
    """Returns whether UTF-8 can hold `text`: Python keeps other bytes of a command as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def code(text: str) -> str:
    """Returns foreign text as Markdown code, which no sign in it can end, for a cell of a table."""
    plain = "".join(sign if sign.isprintable() and sign not in "`|" else "·" for sign in text)
    return f"`{plain}`"


def spreadsheet_cell(value: object) -> object:
    """Returns a text that a spreadsheet would read as a formula with an apostrophe before it."""
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


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
        file: Where to print. Lines are never folded: a table may go into a file or a pager.
        headings: One text per column.
        rows: Cells as they are printed; brackets in them are no markup.
        numbers: Positions of the columns that are aligned to the right.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for position, heading in enumerate(headings):
        side: Literal["left", "right"] = "right" if position in numbers else "left"
        table.add_column(Text(heading), justify=side, no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(file=file, width=_UNLIMITED)
    with console.capture() as capture:
        console.print(table)
    file.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())
