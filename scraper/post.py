"""
Post and Decision: what a board says about one image, and what a stage says about one post.

JSON of the board is checked here, field by field; tables below this line can be trusted.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import urlsplit

import pyarrow as pa

from scraper.errors import UnexpectedResponse

TAG_KINDS = ("general", "character", "copyright", "artist", "meta")
CATEGORIES = {"general": 0, "artist": 1, "copyright": 3, "character": 4, "meta": 5}
"""The site's own numbers of tag categories (booru: `TagCategory`; 2 is unused)."""

# What a post is asked for (`only=`): every field that `Post.from_json` reads, and no other.
WANTED_FIELDS = (
    "id,created_at,updated_at,uploader_id,score,source,md5,rating,image_width,image_height,"
    "file_ext,file_size,parent_id,has_children,is_pending,is_flagged,is_deleted,is_banned,"
    "tag_string_general,tag_string_character,tag_string_copyright,tag_string_artist,"
    "tag_string_meta,file_url,media_asset"
)

_HEX32 = re.compile(r"[0-9a-f]{32}")
_PORTS = {"http": 80, "https": 443}
_INT32, _INT64 = 2**31 - 1, 2**63 - 1


@dataclass(frozen=True, slots=True)
class Variant:
    """One file that the site offers for a post: a scaled copy, or the original."""

    type: str
    """`180x180`, `360x360`, `720x720`, `sample`, `full` or `original`."""
    url: str
    """Relative to the board when the board itself serves it (`/180x180/…`), else absolute."""
    width: int
    """In pixels, as listed."""
    height: int
    """In pixels, as listed."""
    file_ext: str
    """`jpg`, `png`, `webp`, …, without a dot."""


@dataclass(frozen=True, slots=True)
class Post:
    """
    One post as the board described it. The fields are the columns of `posts.parquet`.

    A post that the caller may not see has neither md5 nor variants (`is_hidden`), whatever its
    status flags say.
    """

    post_id: int
    created_at_utc: datetime
    """To the millisecond."""
    updated_at_utc: datetime
    """To the millisecond."""
    md5: str | None
    """Of the original file, 32 hex digits. Null when the post is hidden."""
    pixel_hash: str | None
    """Equal for files with the same pixels, 32 hex digits. Present even when hidden."""
    rating: str
    """`g`, `s`, `q` or `e`."""
    image_width: int
    """Of the original, in pixels."""
    image_height: int
    """Of the original, in pixels."""
    file_ext: str
    file_bytes: int
    """Of the original."""
    duration_seconds: float | None
    """Null for a still image."""
    parent_id: int | None
    has_children: bool
    is_pending: bool
    is_flagged: bool
    is_deleted: bool
    is_banned: bool
    score: int
    uploader_id: int
    source: str
    """Where the uploader found it: a URL, free text, or empty."""
    tags_general: tuple[str, ...]
    tags_character: tuple[str, ...]
    tags_copyright: tuple[str, ...]
    tags_artist: tuple[str, ...]
    tags_meta: tuple[str, ...]
    variants: tuple[Variant, ...]
    """Smallest first, the original last. Empty when the post is hidden."""
    given_label: str | None = None
    """Label, split and group of a source that brings its own (a folder); else null."""
    given_split: str | None = None
    given_group: str | None = None

    @property
    def is_hidden(self) -> bool:
        """True when the board withholds the files."""
        return self.md5 is None

    @property
    def tags(self) -> frozenset[str]:
        """Tags of all kinds together."""
        return frozenset().union(*(getattr(self, f"tags_{kind}") for kind in TAG_KINDS))

    @classmethod
    def from_json(cls, answer: Any, *, base_url: str) -> Self:
        """
        Returns the post that a board described in one JSON object.

        URLs on the board's own host (`base_url`) become relative, so that tables do not depend
        on its address.

        Raises:
            UnexpectedResponse: A field is absent, ill-typed or out of range; the message names
                the post and the field.
        """
        if not isinstance(answer, dict):
            raise UnexpectedResponse(
                f"The board sent {_shown(answer)} where a post was expected. Its API differs "
                "from Danbooru's: check the address given as site."
            )
        read = _Reader(answer, "post")
        asset = answer.get("media_asset")
        asset_read = _Reader(asset if isinstance(asset, dict) else {}, f"{read.name}.media_asset")
        variants = asset_read.variants(base_url) if answer.get("file_url") else ()
        md5 = read.hash("md5") if variants else None
        return cls(
            post_id=read.integer("id", least=1),
            created_at_utc=read.time("created_at"),
            updated_at_utc=read.time("updated_at"),
            md5=md5,
            pixel_hash=asset_read.hash("pixel_hash"),
            rating=read.text("rating"),
            image_width=read.integer("image_width", most=_INT32),
            image_height=read.integer("image_height", most=_INT32),
            file_ext=read.text("file_ext"),
            file_bytes=read.integer("file_size"),
            duration_seconds=asset_read.seconds("duration"),
            parent_id=None if answer.get("parent_id") is None else read.integer("parent_id"),
            has_children=read.flag("has_children"),
            is_pending=read.flag("is_pending"),
            is_flagged=read.flag("is_flagged"),
            is_deleted=read.flag("is_deleted"),
            is_banned=read.flag("is_banned"),
            score=read.integer("score", least=-_INT32, most=_INT32),
            uploader_id=read.integer("uploader_id"),
            source=read.text("source"),
            tags_general=read.tags("tag_string_general"),
            tags_character=read.tags("tag_string_character"),
            tags_copyright=read.tags("tag_string_copyright"),
            tags_artist=read.tags("tag_string_artist"),
            tags_meta=read.tags("tag_string_meta"),
            variants=variants if md5 else (),
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Returns the post of one row of `posts.parquet` (`to_row` of it is that row)."""
        values = {name: row[name] for name in _POST_FIELDS}
        for kind in TAG_KINDS:
            values[f"tags_{kind}"] = tuple(values[f"tags_{kind}"])
        values["variants"] = tuple(Variant(**variant) for variant in values["variants"])
        return cls(**values)

    def to_row(self) -> dict[str, Any]:
        """Returns the row of `posts.parquet`, in plain lists and mappings."""
        row = {name: getattr(self, name) for name in _POST_FIELDS}
        for kind in TAG_KINDS:
            row[f"tags_{kind}"] = list(row[f"tags_{kind}"])
        row["variants"] = [
            {name: getattr(variant, name) for name in _VARIANT_FIELDS} for variant in self.variants
        ]
        return row


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of a stage for one post; a refused post has one for each rule it broke."""

    post_id: int
    stage: str
    kept: bool
    reason: str | None = None
    """Name of the rule that refused it; null when kept."""
    measured: float | None = None
    """The number that the rule looked at, when it compares numbers."""
    threshold: float | None = None
    """The number it was compared with."""

    def to_row(self) -> dict[str, Any]:
        """Returns the row of a `decisions.parquet`."""
        return {name: getattr(self, name) for name in DECISIONS_SCHEMA.names}


_POST_FIELDS = tuple(field.name for field in fields(Post))
_VARIANT_FIELDS = tuple(field.name for field in fields(Variant))
_TIME = pa.timestamp("ms", tz="UTC")
_TAGS = pa.list_(pa.string())
_VARIANT_COLUMNS: dict[str, pa.DataType] = {
    "type": pa.string(),
    "url": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "file_ext": pa.string(),
}

_POST_COLUMNS: dict[str, pa.DataType] = {
    "post_id": pa.int64(),
    "created_at_utc": _TIME,
    "updated_at_utc": _TIME,
    "md5": pa.string(),
    "pixel_hash": pa.string(),
    "rating": pa.string(),
    "image_width": pa.int32(),
    "image_height": pa.int32(),
    "file_ext": pa.string(),
    "file_bytes": pa.int64(),
    "duration_seconds": pa.float64(),
    "parent_id": pa.int64(),
    "has_children": pa.bool_(),
    "is_pending": pa.bool_(),
    "is_flagged": pa.bool_(),
    "is_deleted": pa.bool_(),
    "is_banned": pa.bool_(),
    "score": pa.int32(),
    "uploader_id": pa.int64(),
    "source": pa.string(),
    "tags_general": _TAGS,
    "tags_character": _TAGS,
    "tags_copyright": _TAGS,
    "tags_artist": _TAGS,
    "tags_meta": _TAGS,
    "variants": pa.list_(pa.struct(_VARIANT_COLUMNS.items())),
    "given_label": pa.string(),
    "given_split": pa.string(),
    "given_group": pa.string(),
}

_DECISION_COLUMNS: dict[str, pa.DataType] = {
    "post_id": pa.int64(),
    "stage": pa.string(),
    "kept": pa.bool_(),
    "reason": pa.string(),
    "measured": pa.float64(),
    "threshold": pa.float64(),
}

POSTS_SCHEMA = pa.schema(_POST_COLUMNS)
DECISIONS_SCHEMA = pa.schema(_DECISION_COLUMNS)


def relative_url(url: str, base_url: str) -> str:
    """
    Returns `url` without scheme and host when they are those of `base_url`, else unchanged.

    Joining the result to `base_url` (RFC 3986) gives an equivalent URL again. A URL with
    credentials, or one whose path would read as a host (`//…`), stays as it is.
    """
    try:
        parts, base = urlsplit(url), urlsplit(base_url)
        same = (parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)) == (
            base.scheme,
            base.hostname,
            base.port or _PORTS.get(base.scheme),
        )
    except ValueError:
        return url
    if not same or "@" in parts.netloc or not parts.path.startswith("/") or parts.path[1:2] == "/":
        return url
    return parts.path + (f"?{parts.query}" if parts.query else "")


class _Reader:
    """Reads the fields of one JSON object; what is wrong is named after object and field."""

    def __init__(self, answer: Mapping[str, Any], name: str) -> None:
        self.answer = answer
        self.name = f"{name} {answer['id']!r:.30}" if "id" in answer and name == "post" else name

    def integer(self, key: str, *, least: int = 0, most: int = _INT64) -> int:
        value = self.answer.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._wrong(key, f"a whole number from {least} to {most}")
        return value

    def text(self, key: str) -> str:
        value = self.answer.get(key)
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        return _encodable(value)

    def flag(self, key: str) -> bool:
        value = self.answer.get(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def time(self, key: str) -> datetime:
        try:
            moment = datetime.fromisoformat(self.text(key))
            if moment.tzinfo is None:
                raise self._wrong(key, "a time with its offset from UTC")
            utc = moment.astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise self._wrong(key, "an ISO 8601 time") from error
        return utc.replace(microsecond=utc.microsecond // 1000 * 1000)

    def hash(self, key: str) -> str | None:
        value = self.answer.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not _HEX32.fullmatch(value):
            raise self._wrong(key, "32 hex digits")
        return value

    def seconds(self, key: str) -> float | None:
        value = self.answer.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise self._wrong(key, "a duration in seconds")
        try:
            seconds = float(value)
        except OverflowError as error:
            raise self._wrong(key, "a duration in seconds") from error
        if not math.isfinite(seconds):
            raise self._wrong(key, "a duration in seconds")
        return seconds

    def tags(self, key: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.text(key).split()))

    def variants(self, base_url: str) -> tuple[Variant, ...]:
        value = self.answer.get("variants")
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise self._wrong("variants", "a list of objects")
        return tuple(_variants(value, self.name, base_url))

    def _wrong(self, key: str, expected: str) -> UnexpectedResponse:
        found = _shown(self.answer[key]) if key in self.answer else "absent"
        return UnexpectedResponse(
            f"Field '{key}' of {self.name} is {found}, not {expected}. The board's API differs "
            "from Danbooru's, or has changed: check the site, or report this post."
        )


def _variants(entries: Iterable[Mapping[str, Any]], name: str, base_url: str) -> Iterable[Variant]:
    for position, entry in enumerate(entries):
        read = _Reader(entry, f"{name}.variants[{position}]")
        yield Variant(
            type=read.text("type"),
            url=relative_url(read.text("url"), base_url),
            width=read.integer("width", most=_INT32),
            height=read.integer("height", most=_INT32),
            file_ext=read.text("file_ext"),
        )


def _encodable(text: str) -> str:
    """JSON may carry half of a surrogate pair, which no UTF-8 file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def _shown(value: Any) -> str:
    """A value in an error message: short, whatever the board sent."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
