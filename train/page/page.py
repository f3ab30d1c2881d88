"""Sections to one HTML file that opens without a network: styles and images inside, no script."""

import re
from collections.abc import Sequence
from pathlib import Path
from string import Template

from train.page.figures import INKS
from train.page.markup import element, escape, join
from train.page.sections import Section

TITLE = "Does a hierarchy of CNNs beat one flat CNN?"
_HERE = Path(__file__).parent


def assemble(sections: Sequence[Section]) -> str:
    """Returns the whole page; figures take their colours from the page's light or dark scheme."""
    contents = [element("a", one.title, href=f"#{one.anchor}") for one in sections]
    body = [
        element("section", element("h2", one.title), one.body, id=one.anchor) for one in sections
    ]
    page = Template((_HERE / "page.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=escape(TITLE),
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        contents=join(contents),
        sections=_themed(join(body, between="\n")),
        footer=escape("Every figure lies beside this file as SVG, with the CSV it was drawn from."),
    )


def _themed(body: str) -> str:
    """Puts the page's colour variables in the place of the figures' own colours."""
    colours = {colour: f"var(--{name})" for name, colour in INKS.items()}
    pattern = re.compile("|".join(map(re.escape, colours)))

    def themed(style: re.Match[str]) -> str:
        return pattern.sub(lambda found: colours[found.group()], style.group())

    return re.sub(r'(?<= style=")[^"]*', themed, body)
