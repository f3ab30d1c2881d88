r"""
MkDocs hook: renders the formulas of a page as MathML while the site is built.

`pymdownx.arithmatex` marks each formula as `\(...\)` or `\[...\]` in the HTML; this hook replaces
the marks by MathML, which browsers draw without a script or a font from the network.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Returns the HTML of a page with each marked formula as a MathML element."""
    return _FORMULA.sub(_rendered, content)


def _rendered(match: re.Match[str]) -> str:
    display = "block" if match[1] == "div" else "inline"
    formula = convert(html.unescape(match[2]).strip(), display=display)
    return f'<{match[1]} class="formula">{formula}</{match[1]}>'
