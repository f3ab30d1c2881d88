"""
The records that the board keeps of a post: the public post, the recipe of its file, the truth.

`FileRecipe` and `Truth` stay inside the board: no answer over HTTP carries them.
"""

from dataclasses import dataclass, field

CATEGORIES = {"general": 0, "artist": 1, "copyright": 3, "character": 4, "meta": 5}
"""Tag category to its number in the API; 2 is unused (Danbooru, `app/logical/tag_category.rb`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecipe:
    """How an original file is made. Equal recipes give equal bytes."""

    cast: tuple[str, ...] = ()
    """Names of the personae in the image, the main persona first."""
    kind: str = "portrait"
    """Composition, one of `drawing.KINDS`."""
    ground: str = "white"
    """Background behind the figures, one of `drawing.GROUNDS`."""
    style: str = "flat"
    """Rendering, one of `drawing.STYLES`."""
    seed: int = 0
    """Random seed of the drawing."""
    width: int = 400
    """Width of the original, in pixels."""
    height: int = 520
    """Height of the original, in pixels."""
    monochrome: bool = False
    """Whether the image is drawn in grey or in one hue."""
    edit: str | None = None
    """Near-duplicate edit of the drawing, one of `drawing.EDITS`, or None."""
    edit_seed: int = 0
    """Random seed of the edit."""
    file_ext: str = "jpg"
    """File type of the original."""
    mode: str = "rgb"
    """How pixels are stored: rgb, grey, palette, cmyk, animated, or unusually: grey_16_bit,
    palette_alpha, turned (by EXIF) or bomb (pixels of one colour)."""
    quality: int = 88
    """Quality of lossy encoders, 1 to 100."""
    salt: int = 0
    """A number other than 0 is written as a comment, so that equal pixels have different bytes."""
    damage: str | None = None
    """Damage to every file of the post: `truncated`, `undecodable` or None."""
    path: str | None = None
    """Path of an image on disk that is served unchanged; None draws the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the image of a post shows, whatever its tags say, and how it must be decided."""

    post_id: int
    persona: str | None
    """Leaf character tag of the persona in the image; None unless there is exactly one."""
    family: str | None
    """Visual family of `persona`."""
    cast: tuple[str, ...]
    """Names of the personae in the image, the main persona first."""
    reasons: frozenset[str] = frozenset()
    """Reason codes that the decisions must contain at some stage; they may contain more."""
    mistagged: str | None = None
    """`wrong_persona`, `wrongly_refused` (good image, wrong tags), `wrongly_kept` or None."""
    duplicate_of: int | None = None
    """Id of the post whose image is repeated, or None."""
    duplicate: str | None = None
    """Kind of duplicate: `exact`, `pixel`, `near`, `family` or None."""
    kind: str = "portrait"
    """Composition, one of `drawing.KINDS`."""
    ground: str | None = None
    """Background, one of `drawing.GROUNDS`."""
    style: str | None = None
    """Rendering, one of `drawing.STYLES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPost:
    """
    A post as the board stores it. `FileFacts` holds the values that depend on the file's bytes.

    The fields follow Danbooru's API (https://danbooru.donmai.us/wiki_pages/api:posts).
    """

    post_id: int
    created_ms: int
    """Time of the upload, in milliseconds since 1970, UTC."""
    updated_ms: int
    """Time of the last change, in milliseconds since 1970, UTC."""
    uploader_id: int
    up_score: int
    """Number of votes for the post."""
    down_score: int
    """Number of votes against the post, as zero or a negative number."""
    score: int
    """Sum of the votes, those of deleted accounts included."""
    fav_count: int
    """Number of accounts that have the post as a favourite."""
    source: str
    """URL or free text; empty when unknown."""
    rating: str
    """First letter of general, sensitive, questionable or explicit."""
    width: int
    """Width of the original, in pixels."""
    height: int
    """Height of the original, in pixels."""
    file_ext: str
    """File type of the original."""
    duration: float | None
    """Seconds of an animation; None for a still image."""
    tags: dict[str, tuple[str, ...]]
    """Tag category to tag names, sorted by bytes."""
    recipe: FileRecipe
    parent_id: int | None = None
    children: tuple[int, ...] = ()
    """Ids of the child posts, deleted posts included."""
    active_children: bool = False
    """Whether a child post is not deleted."""
    pixiv_id: int | None = None
    flags: frozenset[str] = frozenset()
    """Subset of pending, flagged, deleted and banned."""
    restricted: bool = False
    """Whether a tag of the post hides its files from accounts below Gold."""
    asset_gone: bool = False
    """Whether the file was removed from the board after the upload."""
    all_tags: tuple[str, ...] = field(default=())
    """Tags of all categories, sorted by bytes."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The values of a post that are known once its original file is made."""

    md5: str
    """MD5 of the original file, 32 hex digits."""
    file_bytes: int
    """Size of the original file, in bytes."""
    pixel_hash: str
    """Hash of the decoded pixels, 32 hex digits: equal for files with equal pixels."""
