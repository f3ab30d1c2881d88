"""
MkDocs hook: removes the public hosts from which the scripts of the theme would load libraries.

Material loads Mermaid when a page has a diagram of it, and a polyfill in browsers without
ResizeObserver. Our pages have no such diagrams and current browsers have the observer, so neither
is ever loaded; without the addresses this can be checked in the built files.
"""

from pathlib import Path
from typing import Any

_HOST = "https://unpkg.com/"


def on_post_build(*, config: Any, **_: Any) -> None:
    """Rewrites the scripts of the built site."""
    for path in Path(config["site_dir"]).rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        if _HOST in text:
            path.write_text(text.replace(_HOST, "not-in-this-site/"), encoding="utf-8")
