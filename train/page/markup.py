"""
HTML in small pieces: escaping, numbers as people read them, tables.

Every text that is not `Html` is escaped: a tag may be named like a script.
"""

import html
import math
import re
from collections.abc import Iterable, Sequence

from train.evaluation.statistics import Interval


class Html(str):
    """Text that is HTML already. Everything else is escaped where it enters the page."""

    __slots__ = ()


Text = str | Html


def escape(text: object) -> Html:
    """Returns `text` safe between tags and inside quoted attributes; `Html` stays as it is."""
    return text if isinstance(text, Html) else Html(html.escape(str(text), quote=True))


def join(pieces: Iterable[Text], *, between: str = "") -> Html:
    """Returns the pieces one after the other, each escaped."""
    return Html(between.join(escape(piece) for piece in pieces))


def element(name: str, *inside: Text, **attributes: str) -> Html:
    """Returns one element. An attribute's trailing or inner underscore stands for a hyphen."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
    )
    return Html(f"<{name}{given}>{join(inside)}</{name}>")


def paragraph(*inside: Text, **attributes: str) -> Html:
    """Returns a paragraph of the pieces."""
    return element("p", *inside, **attributes)


def folded(summary: Text, *inside: Text) -> Html:
    """Returns what only some readers want, behind a line that opens it."""
    return element("details", element("summary", summary), *inside)


def table(
    head: Sequence[Text],
    rows: Iterable[Sequence[Text]],
    *,
    caption: Text,
    words: Sequence[int] = (0,),
    marked: Sequence[int] = (),
) -> Html:
    """
    Returns a table in a box that scrolls by itself on a narrow screen.

    Columns in `words` hold words and start at the left; all others hold numbers. Rows in
    `marked` are emphasised. The first cell of a row is its heading.
    """
    headings = join(
        element("th", _unit(cell), scope="col", class_="word" if place in words else "number")
        for place, cell in enumerate(head)
    )
    body = []
    for number, row in enumerate(rows):
        cells = [element("th", _breakable(row[0]), scope="row", class_="word")]
        cells += [
            element("td", cell, class_="word" if place in words else "number")
            for place, cell in enumerate(row[1:], start=1)
        ]
        body.append(element("tr", *cells, class_="marked" if number in marked else "plain"))
    made = element("table", element("thead", element("tr", headings)), element("tbody", *body))
    # The words stand outside the box that scrolls; the box must be reachable by keyboard.
    box = element("div", made, class_="scroll", tabindex="0")
    return element("figure", element("figcaption", caption), box, class_="table")


def _breakable(name: Text) -> Html:
    """A long name breaks after an underscore rather than anywhere."""
    return name if isinstance(name, Html) else Html(escape(name).replace("_", "_<wbr>"))


def _unit(heading: Text) -> Text:
    """No line break before a unit."""
    return heading if isinstance(heading, Html) else re.sub(r", (%|s|ms|M)$", ",\u00a0\\1", heading)


def percent(share: float | None, *, digits: int = 1) -> str:
    """Returns a share in percent without the sign: 0.7345 becomes 73.5; None an empty cell."""
    return "" if share is None or math.isnan(share) else f"{100 * share:.{digits}f}"


def points(difference: float, *, digits: int = 1) -> str:
    """Returns a difference of shares in percentage points, always with its sign."""
    text = f"{100 * difference:+.{digits}f}"
    return (
        (text.replace("+", "±") if float(text) == 0 else text).replace("±-", "±").replace("-", "−")
    )


def between(interval: Interval, *, digits: int = 1) -> str:
    """Returns an interval in percentage points: −0.4 to +2.1."""
    return f"{points(interval.low, digits=digits)} to {points(interval.high, digits=digits)}"


def count(value: float) -> str:
    """Returns a whole number with commas between its thousands."""
    return f"{value:,.0f}"


def seconds(value: float) -> str:
    """Returns seconds with three significant digits at most, and no unit."""
    return count(value) if value >= 100 else f"{value:.1f}"


def milliseconds(value: float | None) -> str:
    """Returns milliseconds with three significant digits, and no unit; None an empty cell."""
    return "" if value is None else f"{value:.3g}" if value < 100 else count(value)


def p_value(value: float) -> str:
    """Returns a p value: three digits, or that it is below them."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def millions(value: float) -> str:
    """Returns a number in millions, three significant digits."""
    return f"{value / 1e6:.3g}"
