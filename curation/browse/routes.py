"""
The answers of the browse page: from the target of a GET request to status, media type and body.

The page itself is three fixed files. Everything else is JSON or an image, found by a post id that is
a number. No part of an address is used as a path or as SQL.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import duckdb
from pydantic import ValidationError

from curation.browse import choices, gallery, images
from curation.browse.detail import detail
from curation.browse.selection import Selection
from curation.browse.snapshot import Library, Snapshot
from curation.errors import TamperedData
from curation.values import plain
from personae.errors import MissingInput, PersonaeError
from personae.local_page import Reply, as_json, error, page_file

_MOST_FIELDS = 40
_PAGES = Path(__file__).parent / "pages"
_FILES = {
    "/": "browse.html",
    "/browse.css": "browse.css",
    "/browse.js": "browse.js",
    "/detail.js": "detail.js",
}
_IMMUTABLE = "private, max-age=31536000, immutable"

Fields = dict[str, str]


class BadAddress(PersonaeError):
    """The address of a request names a parameter or a value that the page does not know."""


def reply(library: Library, target: str) -> Reply:
    """Answers one GET request; every failure becomes JSON with the key `error`."""
    try:
        parts = urlsplit(target)
        if parts.path in _FILES:
            return page_file(_PAGES / _FILES[parts.path])
        fields = _fields(parts.query)
        for pattern, answer in _ROUTES:
            match = pattern.fullmatch(parts.path)
            if match:
                return answer(library.snapshot(), fields, *match.groups())
    except (BadAddress, ValueError) as failure:
        return error(400, str(failure))
    except (MissingInput, TamperedData) as failure:
        return error(404, str(failure))
    except (duckdb.Error, OSError) as failure:
        text = str(failure).splitlines()[0]
        return error(503, f"The catalog cannot be read: {text} Run stage 'catalog' again.")
    return error(404, "There is no such address.")


def _fields(query: str) -> Fields:
    pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="replace")
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise BadAddress("A parameter is given twice.")
    return fields


def _selection(fields: Fields) -> Selection:
    given = {name: value for name, value in fields.items() if value}
    try:
        return Selection.model_validate(given)
    except ValidationError as failure:
        first = failure.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(Selection.model_fields)
            raise BadAddress(f"{name} is not a parameter. There are {known}.") from None
        raise BadAddress(f"{name}: {first['msg']}." if name else f"{first['msg']}.") from None


def _posts(snapshot: Snapshot, fields: Fields) -> Reply:
    return _json(gallery.page(snapshot, _selection(fields)))


def _post(snapshot: Snapshot, fields: Fields, post_id: str) -> Reply:
    _only(fields)
    facts = detail(snapshot, _id(post_id))
    return _json(facts) if facts else error(404, f"The catalog has no post {post_id}.")


def _choices(snapshot: Snapshot, fields: Fields) -> Reply:
    _only(fields)
    return _json(choices.choices(snapshot))


def _tags(snapshot: Snapshot, fields: Fields) -> Reply:
    _only(fields, "prefix")
    return _json(choices.tags(snapshot, fields.get("prefix", "")[:300].replace("\0", "")))


def _confusions(snapshot: Snapshot, fields: Fields) -> Reply:
    return _json(choices.confusions(snapshot, _selection(fields)))


def _square(snapshot: Snapshot, fields: Fields, post_id: str) -> Reply:
    return _image(images.square(snapshot, _id(post_id)), fields)


def _original(snapshot: Snapshot, fields: Fields, post_id: str) -> Reply:
    return _image(images.original(snapshot, _id(post_id)), fields)


def _image(image: images.ServedImage, fields: Fields) -> Reply:
    """An address with the beginning of the image's sha256 always stands for the same bytes."""
    _only(fields, "v")
    version = fields.get("v", "")
    is_fixed = len(version) >= 8 and image.sha256.startswith(version)
    return Reply(200, image.kind, image.data, _IMMUTABLE if is_fixed else "no-cache")


def _id(digits: str) -> int:
    number = int(digits)
    if number >= 1 << 63:
        raise BadAddress("A post id has at most 63 bits.")
    return number


def _only(fields: Fields, *known: str) -> None:
    for name in fields:
        if name not in known:
            raise BadAddress(f"{name[:80]} is not a parameter of this address.")


def _json(value: Any) -> Reply:
    return as_json(plain(value))


_ROUTES: tuple[tuple[re.Pattern[str], Callable[..., Reply]], ...] = (
    (re.compile(r"/api/posts"), _posts),
    (re.compile(r"/api/posts/([0-9]{1,19})"), _post),
    (re.compile(r"/api/choices"), _choices),
    (re.compile(r"/api/tags"), _tags),
    (re.compile(r"/api/confusions"), _confusions),
    (re.compile(r"/squares/([0-9]{1,19})"), _square),
    (re.compile(r"/originals/([0-9]{1,19})"), _original),
)
