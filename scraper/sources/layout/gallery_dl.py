"""
A download folder of gallery-dl: beside each file `NAME.EXT` its metadata, `NAME.EXT.json`.

gallery-dl writes such files with `--write-metadata`. Where the site sorts its tags by kind, as Danbooru
does, the character tags decide the label, as on the board. Elsewhere the label is the folder of the file
(https://github.com/mikf/gallery-dl, `docs/configuration.rst`, `metadata`). No image is opened here.
"""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final

from scraper.errors import BadFolder
from scraper.post import TAG_KINDS
from scraper.sources.layout.images import (
    RATING_OF,
    Description,
    LabelledImage,
    is_label,
    named,
    plain_file,
    plain_text,
)

_log = logging.getLogger(__name__)

_MOST_BYTES = 1 << 20  # of a metadata file; those of Danbooru have some 5 kB
_MOST_TAGS = 1000  # of one kind
_FLAGS: Final = ("is_deleted", "is_banned", "is_pending", "is_flagged")
_INT32 = 2**31 - 1


def is_download(root: Path, paths: Sequence[str]) -> bool:
    """Returns whether one of the files has the metadata of gallery-dl beside it."""
    known = set(paths)
    return any(
        f"{path}.json" in known and "category" in _metadata(root, f"{path}.json") for path in paths
    )


def described(root: Path, paths: Sequence[str]) -> Iterator[LabelledImage]:
    """
    Yields every file with its label and what its metadata says; a metadata file is no image.

    Raises:
        BadFolder: The name of a folder that is a label is invalid.
    """
    known = set(paths)
    sidecars = {f"{path}.json" for path in paths} & known
    lacking = 0
    for path in paths:
        if path in sidecars:
            continue
        metadata = _metadata(root, f"{path}.json") if f"{path}.json" in sidecars else {}
        lacking += not metadata
        yield _image(path, metadata, root)
    if lacking:
        _log.warning("listing: %d files have no readable metadata beside them", lacking)


def _image(path: str, metadata: dict[str, Any], root: Path) -> LabelledImage:
    if not metadata:
        return LabelledImage(path, None)
    tags = {kind: _tags(metadata, kind) for kind in TAG_KINDS}
    description = Description(
        tags=tags,
        rating=_rating(metadata),
        source=plain_text(metadata.get("source")),
        created_at_utc=_moment(metadata.get("created_at")),
        score=_number(metadata.get("score"), -_INT32, _INT32) or 0,
        flags=frozenset(name for name in _FLAGS if metadata.get(name) is True),
    )
    folder = PurePosixPath(path).parent.name
    is_sorted = any(tags[kind] for kind in TAG_KINDS if kind != "general")
    label = named(folder, "label", f"Folder {folder!r} of {root}") if folder else None
    return LabelledImage(
        path, None if is_sorted else label, group=_group(metadata), description=description
    )


def _metadata(root: Path, path: str) -> dict[str, Any]:
    """Returns the content of a metadata file; empty where it cannot be read."""
    try:
        file = plain_file(root, path)
        if file.stat().st_size > _MOST_BYTES:
            return {}
        content = json.loads(file.read_bytes())
    except (BadFolder, OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _tags(metadata: dict[str, Any], kind: str) -> tuple[str, ...]:
    """Returns the tags of one kind: `tag_string_KIND`, `tags_KIND`, or an entry of `tags`."""
    value = metadata.get(f"tag_string_{kind}") or metadata.get(f"tags_{kind}")
    everything = metadata.get("tags")
    if isinstance(everything, dict):
        value = value or everything.get(kind)
    elif kind == "general":
        value = value or everything
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    names = ("_".join(word.split()) for word in words[:_MOST_TAGS] if isinstance(word, str))
    return tuple(dict.fromkeys(sys.intern(name) for name in names if is_label(name)))


def _rating(metadata: dict[str, Any]) -> str:
    """
    Returns the rating: general where the site has none, explicit where it is not understood.

    On Danbooru the letter s means sensitive; elsewhere it means safe.
    """
    value = metadata.get("rating")
    if value is None:
        return "g"
    rating = value.lower() if isinstance(value, str) else ""
    if rating == "safe" or (rating == "s" and "tag_string_general" not in metadata):
        return "g"
    return RATING_OF.get(rating, "e")


def _group(metadata: dict[str, Any]) -> str | None:
    """Returns what a post shares with its parent and its copies, so that they stay in one split."""
    number = _number(metadata.get("parent_id"), 1, 2**63) or _number(metadata.get("id"), 1, 2**63)
    site = metadata.get("category")
    return f"{site} {number}" if number and isinstance(site, str) and is_label(site) else None


def _number(value: Any, least: int, most: int) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and least <= value <= most else None


def _moment(value: Any) -> datetime | None:
    """Returns an ISO 8601 time with its offset as UTC, to the millisecond."""
    try:
        moment = datetime.fromisoformat(value).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
