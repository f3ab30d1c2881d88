"""Text files that people edit: one entry on a line, and comments behind `# `."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from personae.errors import BadParams

# An entry may have `#` in it, as tags do, so a comment needs a space on both sides.
_COMMENT: Final = re.compile(r"(?:^|\s)#(?:\s|$)")


@dataclass(frozen=True, slots=True)
class EditedLine:
    """One entry of a file."""

    where: str
    """File and number of the line, for messages."""
    text: str
    """The entry, without spaces around it."""
    why: str
    """The comment behind it; empty without one."""


def lines(path: Path, *, of: str) -> Iterator[EditedLine]:
    """
    Yields the entries of a file; none if the file is absent. Empty lines and comments are left out.

    Args:
        path: The file, in UTF-8.
        of: What the file is a list of, named in the message.

    Raises:
        BadParams: The file cannot be read.
    """
    try:
        content = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise BadParams(f"{path} cannot be read as a list of {of} ({error}).") from error
    for number, line in enumerate(content, start=1):
        comment = _COMMENT.search(line)
        text, why = (line[: comment.start()], line[comment.end() :]) if comment else (line, "")
        if text.strip():
            yield EditedLine(f"{path}, line {number}", text.strip(), why.strip())
