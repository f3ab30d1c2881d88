"""
Posts that a board's users do upload and that break naive clients: rare files and rare tags.

The generated board has none of them, so that its data stays the same. `add_posts` adds one post of
each kind to a board.
"""

from dataclasses import dataclass, replace

from scraper.demo.board import posts
from scraper.demo.board.booru import DemoBoard
from scraper.demo.facts import tags
from scraper.demo.facts.record import DemoPost
from scraper.demo.facts.tags import TagRelation

_FIRST_RELATION = 900_000
_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusual:
    """The differences between an unusual post and a good post."""

    size: tuple[int, int] = (420, 560)
    """Width and height that the board lists, in pixels."""
    file_ext: str = "jpg"
    """File type of the original."""
    mode: str = "rgb"
    """How pixels are stored, as in `FileRecipe.mode`."""
    duration: float | None = None
    """Seconds of an animation, or None for a still image."""
    add: tuple[str, ...] = ()
    """Tags that a good post does not have."""
    drop: tuple[str, ...] = ()
    """Tags of a good post that are left out."""
    source: str = ""
    """Source of the post; empty keeps that of the good post."""


UNUSUAL = {
    "declares_144_megapixels": Unusual(size=(12_000, 12_000), file_ext="png", mode="bomb"),
    "one_pixel": Unusual(size=(1, 1), file_ext="png"),
    "very_wide": Unusual(size=(4_000, 100)),
    "cmyk": Unusual(mode="cmyk"),
    "grey_16_bit": Unusual(file_ext="png", mode="grey_16_bit"),
    "palette_with_alpha": Unusual(file_ext="png", mode="palette_alpha"),
    "turned_by_exif": Unusual(mode="turned"),
    "animated_webp": Unusual(file_ext="webp", mode="animated", duration=1.0),
    "ugoira": Unusual(file_ext="zip", duration=2.4),
    "mp4": Unusual(file_ext="mp4", duration=12.5),
    "swf": Unusual(file_ext="swf"),
    "thirty_characters": Unusual(add=tags.CROWD),
    "girl_and_boy": Unusual(add=("1girl", "1boy")),
    "several_views": Unusual(add=("multiple_views",)),
    "no_character": Unusual(add=("original",), drop=(*tags.CHARACTERS, *tags.COPYRIGHTS)),
    "sibling_forms": Unusual(add=tags.SIBLINGS, drop=tuple(tags.CHARACTERS)),
    "form_of_two": Unusual(add=(tags.FUSION,), drop=tuple(tags.CHARACTERS)),
    "odd_names": Unusual(
        add=(
            "../../etc/passwd",
            "50%_off",
            "a+b",
            "q&a",
            "reverse:1999",
            "<3",
            'the_"best"',
            "it's",
        ),
        source="\u753b\u96c6 \u201cvol. 3\u201d / p\u00e1gina 9",
    ),
}
"""Kind to the post of that kind."""


def add_posts(board: DemoBoard) -> dict[str, int]:
    """
    Adds one post of each kind of `UNUSUAL`, newest last, and the implications that they need.

    Args:
        board: The board. It must have a good post, as every generated board has.

    Returns:
        Kind to the id of its post.
    """
    board.implications = (*board.implications, *_relations())
    good = next(post for post in board.posts if _is_good(post, board))
    added = {}
    for kind, unusual in UNUSUAL.items():
        newest = board.posts[-1]
        board.insert(_post(good, unusual, newest, board.implications))
        added[kind] = board.posts[-1].post_id
    return added


def _relations() -> tuple[TagRelation, ...]:
    return tuple(
        TagRelation(_FIRST_RELATION + number, form, "moss_oracle", "active")
        for number, form in enumerate(tags.SIBLINGS)
    )


def _is_good(post: DemoPost, board: DemoBoard) -> bool:
    truth = board.truth(post.post_id)
    return not truth.reasons and truth.mistagged is None and truth.duplicate is None


def _post(
    good: DemoPost, unusual: Unusual, newest: DemoPost, implications: tuple[TagRelation, ...]
) -> DemoPost:
    width, height = unusual.size
    names = posts.full_tags(
        (set(good.all_tags) | set(unusual.add)) - (set(unusual.drop) - set(unusual.add)),
        tags.edges(implications),
        size=unusual.size,
        file_ext=unusual.file_ext,
        duration=unusual.duration,
    )
    created = newest.created_ms + _MINUTE_MS
    return replace(
        good,
        post_id=newest.post_id + 1,
        created_ms=created,
        updated_ms=created,
        source=unusual.source or good.source,
        width=width,
        height=height,
        file_ext=unusual.file_ext,
        duration=unusual.duration,
        tags=posts.categorised(names),
        all_tags=tuple(sorted(names)),
        parent_id=None,
        children=(),
        active_children=False,
        recipe=replace(
            good.recipe,
            # Every post has an image of its own, so that none is a duplicate.
            seed=good.recipe.seed + newest.post_id,
            width=width,
            height=height,
            file_ext=unusual.file_ext,
            mode=unusual.mode,
        ),
    )
