"""
Renders sections to one HTML file that opens offline: styles, images and one script inside.

Everything can be read without the script. All markup lies in `templates`; `autoescape` makes text of every label and parameter, never markup.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from train.page.blocks import PageSection
from train.page.figures import INKS
from train.page.formatting import count

TITLE = "Does a hierarchy of CNNs beat one flat CNN at the same cost?"


_OPEN = ("answer", "results")
"""Sections that are open at first; the others are a line each until a reader opens them."""


def assemble(sections: Sequence[PageSection], runs: Sequence[str] = ()) -> str:
    """
    Returns the whole page as HTML, one `<section>` for each of `sections`, in their order.

    `runs` are the names that a reader can hide. The policy of the page allows its own script alone.
    """
    environment = _environment()
    script = Markup(files(__package__).joinpath("templates/page.js").read_text(encoding="utf-8"))  # noqa: S704  # our own file
    return environment.get_template("page.html").render(
        title=TITLE,
        sections=sections,
        open=_OPEN,
        runs=list(runs),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def render(section: PageSection) -> str:
    """Returns the HTML of one section without its heading."""
    template = _environment().get_template(f"{section.anchor}.html")
    return template.render(content=section.content)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("train.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": count, "inline_svg": _inline_svg}
    return environment


def _inline_svg(svg: str) -> Markup:
    """
    Returns a figure's SVG as markup whose colours follow the page's light or dark scheme.

    matplotlib wrote `svg` and escaped the labels in it; nothing else enters the page unescaped.
    """
    variables = {colour: f"var(--{name})" for name, colour in INKS.items()}
    pattern = re.compile("|".join(map(re.escape, variables)))

    def replaced(style: re.Match[str]) -> str:
        return pattern.sub(lambda match: variables[match.group()], style.group())

    return Markup(re.sub(r'(?<= style=")[^"]*', replaced, svg))  # noqa: S704  # see above
