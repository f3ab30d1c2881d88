"""
How the staff of a public board can reach the user.

Read in this order: section `site`, the environment (PERSONAE_CONTACT), the user's configuration
folder, a question on the terminal. A board on this machine needs no contact.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from scraper.params.site import Params
from scraper.site import needs_contact


def find(
    params: Params,
    *,
    environment: Mapping[str, str] = os.environ,
    ask: Callable[[str], str] | None = None,
) -> str:
    """
    Returns the contact for the User-Agent, empty when none is needed or none is known.

    Args:
        params: Section `site`.
        environment: Variables of the process.
        ask: Puts a question to the user and returns the reply; by default on the terminal, if any.
    """
    if params.contact or not needs_contact(params):
        return params.contact
    file = _file(environment)
    known = environment.get("PERSONAE_CONTACT", "").strip() or _read(file)
    if known:
        return known
    if ask is None:
        if not sys.stdin.isatty():
            return ""
        ask = input
    answer = ask(
        f"{params.name} is a public board: its staff must be able to reach whoever runs this.\n"
        "Your e-mail address, web page, or account there (user #123): "
    ).strip()
    if answer:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{answer}\n", encoding="utf-8")
        sys.stderr.write(f"Saved in {file}.\n")
    return answer


def _file(environment: Mapping[str, str]) -> Path:
    folder = environment.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "personae" / "contact"


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
