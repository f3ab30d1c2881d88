"""Post and PostDecision: what a board states about an image, and what a stage decides about it."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

TAG_KINDS = ("general", "character", "copyright", "artist", "meta")
CATEGORIES = {"general": 0, "artist": 1, "copyright": 3, "character": 4, "meta": 5}
"""Numbers of the tag categories (https://danbooru.donmai.us/wiki_pages/help:api); 2 is unused."""


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
    licence: str | None = None
    """What the source notes on the licence; null where it notes nothing, as a board."""

    @property
    def is_hidden(self) -> bool:
        """True when the board withholds the files."""
        return self.md5 is None

    @property
    def tags(self) -> frozenset[str]:
        """Tags of all kinds together."""
        return frozenset().union(*(getattr(self, f"tags_{kind}") for kind in TAG_KINDS))

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
class PostDecision:
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
        return {name: getattr(self, name) for name in _DECISION_FIELDS}


_POST_FIELDS = tuple(field.name for field in fields(Post))
_VARIANT_FIELDS = tuple(field.name for field in fields(Variant))
_DECISION_FIELDS = tuple(field.name for field in fields(PostDecision))
