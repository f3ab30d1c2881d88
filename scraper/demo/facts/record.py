"""
What the demo board knows of one post: what it shows to anybody, how its file comes about, the truth.

`FileRecipe` and `Truth` stay inside the board: no answer over HTTP carries them.
"""

from dataclasses import dataclass, field

CATEGORIES = {"general": 0, "artist": 1, "copyright": 3, "character": 4, "meta": 5}
"""Danbooru's numbers of tag categories (`TagCategory`; 2 is unused)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecipe:
    """How an original is made. Equal recipes give equal bytes."""

    cast: tuple[str, ...] = ()
    """Names of the personae drawn, the main one first."""
    kind: str = "portrait"
    ground: str = "white"
    style: str = "flat"
    seed: int = 0
    width: int = 400
    """Of the finished original, in pixels."""
    height: int = 520
    monochrome: bool = False
    edit: str | None = None
    """Kind of near-duplicate edit applied to the drawing, or None."""
    edit_seed: int = 0
    file_ext: str = "jpg"
    mode: str = "rgb"
    """How pixels are stored: rgb, grey, palette, cmyk or animated."""
    quality: int = 88
    """Of lossy encoders, 1 to 100."""
    salt: int = 0
    """Not 0: a comment in the file, so that the same pixels have other bytes."""
    damage: str | None = None
    """`truncated` or `undecodable`: what is wrong with every file of the post."""
    path: str | None = None
    """An image on disk to serve as it is, instead of a drawing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a post really shows, and what must become of it."""

    post_id: int
    persona: str | None
    """Leaf character tag that the image deserves; None when it shows not exactly one."""
    family: str | None
    """Visual family of `persona`."""
    cast: tuple[str, ...]
    """Personae drawn, the main one first."""
    reasons: frozenset[str] = frozenset()
    """Reason codes that the post must get at some stage; more may come with them."""
    mistagged: str | None = None
    """`wrong_persona`, `wrongly_refused` (good image, bad tags) or `wrongly_kept`."""
    duplicate_of: int | None = None
    """The post that this one repeats."""
    duplicate: str | None = None
    """How it repeats: `exact`, `pixel`, `near` or `family`."""
    kind: str = "portrait"
    ground: str | None = None
    style: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPost:
    """A post as the board stores it; what depends on the file's bytes is in `FileFacts`."""

    post_id: int
    created_ms: int
    """Milliseconds since 1970, UTC."""
    updated_ms: int
    uploader_id: int
    up_score: int
    down_score: int
    """Zero or negative."""
    score: int
    fav_count: int
    source: str
    rating: str
    width: int
    """Of the original, in pixels."""
    height: int
    file_ext: str
    duration: float | None
    """In seconds; None for a still image."""
    tags: dict[str, tuple[str, ...]]
    """Category to names, byte-sorted."""
    recipe: FileRecipe
    parent_id: int | None = None
    children: tuple[int, ...] = ()
    """Ids of its children, deleted ones too."""
    active_children: bool = False
    pixiv_id: int | None = None
    flags: frozenset[str] = frozenset()
    """Of pending, flagged, deleted, banned."""
    restricted: bool = False
    """Carries a tag that only Gold members see the files of."""
    asset_gone: bool = False
    """The file was removed from the board after listing."""
    all_tags: tuple[str, ...] = field(default=())
    """Every tag, byte-sorted."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What only the finished original tells."""

    md5: str
    file_bytes: int
    pixel_hash: str
    """Equal for files with the same pixels, 32 hex digits."""
