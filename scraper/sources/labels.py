"""Labels of a folder of images as tag names that a board would accept."""

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable

_BALANCED = re.compile(r"[^()]+(\([^()]+\)[^()]*)*")
"""A name whose parentheses are closed, and that begins with another character."""
_RESERVED = frozenset({"new", "search", "and", "or", "not"})


def tag_names(labels: Iterable[str], *, taken: Collection[str] = ()) -> dict[str, str]:
    """
    Returns the tag name of each label: one that a board accepts, none in `taken`.

    Labels that would get the same name are numbered, in the order given.
    """
    names: dict[str, str] = {}
    used = set(taken)
    for label in labels:
        name = first = tag_name(label)
        number = 2
        while name in used:
            name, number = f"{first}_{number}", number + 1
        used.add(name)
        names[label] = name
    return names


def tag_name(label: str) -> str:
    """
    Returns a label as a tag name.

    It is lowercase printable ASCII without spaces, double or outer underscores, and never empty.
    Parentheses stay where they are balanced, as in `saber_(fate)`.
    """
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    name = _joined(plain, "[^a-z0-9.'&+()-]+")
    if not _BALANCED.fullmatch(name):
        name = _joined(name, "[()]")
    if not name:
        name = "label_" + hashlib.sha256(label.encode()).hexdigest()[:8]
    return f"{name}_label" if name in _RESERVED or name.isdigit() else name


def _joined(text: str, separator: str) -> str:
    """Returns the parts of `text` between matches of `separator`, joined with underscores."""
    return re.sub(r"_+", "_", re.sub(separator, "_", text)).strip("_-.")
