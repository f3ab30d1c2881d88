"""
The demo board's vocabulary: categories, aliases, implications, and the tags that a server adds.

Saving a post works as on Danbooru (`app/logical/post_edit.rb`, `tag_names`, in
https://github.com/danbooru/danbooru): `x_(cosplay)` adds `x` and `cosplay`, then the closure of
the active implications is added, then the tags of the file's size and type.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scraper.demo.facts.personae import PERSONAE

COSPLAY = "_(cosplay)"
"""Ending of the tag for a character whose clothes somebody else wears."""

FESTIVAL = "eclipse_ayame_(festival)"
"""A character tag that implies a form, which implies its base: three levels of implication."""

FUSION = "lenore_&_isolde_(fusion)"
"""A character tag that implies two base characters."""

SIBLINGS = ("moss_oracle_(swimsuit)", "moss_oracle_(winter)")
"""Two forms of one base character, on posts of `board.unusual` only."""

CROWD = tuple(f"crowd_member_{number:02d}" for number in range(1, 31))
"""Thirty characters without posts of their own, on one post of `board.unusual` only."""

RESTRICTED = "patron_preview"
"""The board hides the files of posts with this tag from accounts below Gold."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_META = _words(
    """absurdres highres incredibly_absurdres lowres commentary commentary_request translated
    ai-generated ai-assisted third-party_edit upscaled corrupted_image duplicate
    pixel-perfect_duplicate image_sample md5_mismatch resized tagme character_request
    character_counter_request screenshot game_screenshot photo_(medium) animated animated_gif
    animated_png video ugoira flash sound bad_link patron_preview"""
)

_GENERAL_IMPLICATIONS = (
    ("2koma", "comic"),
    ("4koma", "comic"),
    ("silent_comic", "comic"),
    ("greyscale", "monochrome"),
    ("animated_gif", "animated"),
    ("turnaround", "multiple_views"),
    ("kigurumi", "cosplay"),
    ("collared_shirt", "shirt"),
    ("white_shirt", "shirt"),
)

_CHARACTER_IMPLICATIONS = (
    (FESTIVAL, "eclipse_ayame"),
    (FUSION, "lenore_halewyn"),
    (FUSION, "isolde_farrow"),
)

ALIASES = (
    ("ayame_tsukishiro", "tsukishiro_ayame"),
    ("ayame_(starlit_academy)", "tsukishiro_ayame"),
    ("isolde_of_the_tides", "isolde_farrow"),
    ("black_and_white", "greyscale"),
    ("grayscale", "greyscale"),
    ("character_sheet", "reference_sheet"),
    ("tail_coat", "tailcoat"),
)
"""Pairs (old name, new name) of active aliases."""

STALE_ALIASES = {new: old for old, new in reversed(ALIASES) if new == "tsukishiro_ayame"}
"""New name to old name, for the character tags whose posts sometimes have both names."""


@dataclass(frozen=True, slots=True)
class TagRelation:
    """A row of the table of aliases or of implications."""

    relation_id: int
    antecedent: str
    """The old name of an alias; the implying tag of an implication."""
    consequent: str
    """The new name of an alias; the implied tag of an implication."""
    status: str
    """active, deleted or retired; only an active relation has an effect."""


def implications() -> tuple[TagRelation, ...]:
    """
    Returns every implication, among them form to base character; two are no longer active.

    See https://danbooru.donmai.us/wiki_pages/help:tag_implications.
    """
    forms = tuple((persona.name, persona.base) for persona in PERSONAE if persona.base)
    active = forms + _CHARACTER_IMPLICATIONS + _GENERAL_IMPLICATIONS
    rows = [(antecedent, consequent, "active") for antecedent, consequent in active]
    rows.append(("camellia_dane", "momoka_sparrow", "deleted"))
    rows.append(("sketch", "monochrome", "retired"))
    return _relations(rows, first=210_000)


def aliases() -> tuple[TagRelation, ...]:
    """Returns every alias; one is no longer active."""
    rows = [(old, new, "active") for old, new in ALIASES]
    rows.append(("yukine_vale", "isolde_farrow", "deleted"))
    return _relations(rows, first=180_000)


def _relations(rows: Iterable[tuple[str, str, str]], *, first: int) -> tuple[TagRelation, ...]:
    # Ids have gaps of 17, since deleted rows leave gaps on a real board.
    return tuple(
        TagRelation(first + 17 * position, antecedent, consequent, status)
        for position, (antecedent, consequent, status) in enumerate(rows)
    )


def edges(relations: Sequence[TagRelation]) -> dict[str, tuple[str, ...]]:
    """Returns a mapping from each antecedent to the consequents of its active relations."""
    consequents: dict[str, tuple[str, ...]] = {}
    for relation in relations:
        if relation.status == "active":
            before = consequents.get(relation.antecedent, ())
            consequents[relation.antecedent] = (*before, relation.consequent)
    return consequents


def closure(names: Iterable[str], parents: Mapping[str, tuple[str, ...]]) -> set[str]:
    """
    Returns `names` and every tag that they imply, directly or through other tags.

    Args:
        names: Tags of a post. `x_(cosplay)` implies `x` and `cosplay`.
        parents: Antecedent to consequents, as `edges` returns it.
    """
    reached = set(names)
    waiting = [name for name in reached if name in parents or name.endswith(COSPLAY)]
    while waiting:
        name = waiting.pop()
        implied = parents.get(name, ())
        if name.endswith(COSPLAY):
            implied = (*implied, name.removesuffix(COSPLAY), "cosplay")
        for consequent in implied:
            if consequent not in reached:
                reached.add(consequent)
                waiting.append(consequent)
    return reached


def size_tags(width: int, height: int) -> set[str]:
    """
    Returns the tags that a server adds for the size of an original, in pixels.

    The limits are Danbooru's (`app/models/post.rb`, `add_automatic_tags`).
    """
    if 500 < max(width, height) < 1_024:
        return set()
    rules = {
        "incredibly_absurdres": width >= 10_000 or height >= 10_000,
        "absurdres": width >= 3_200 or height >= 2_400,
        "highres": width >= 1_600 or height >= 1_200,
        "lowres": width <= 500 and height <= 500,
        "wide_image": width >= 1_024 and width >= 4 * height,
        "tall_image": height >= 1_024 and height >= 4 * width,
    }
    return {name for name, holds in rules.items() if holds}


def file_tags(file_ext: str, duration: float | None) -> set[str]:
    """
    Returns the tags that a server adds for the type of an original.

    Args:
        file_ext: File type, such as `jpg`.
        duration: Seconds of an animation, or None for a still image.
    """
    if file_ext in ("mp4", "webm"):
        return {"animated", "video"}
    if file_ext == "zip":
        return {"animated", "ugoira"}
    if file_ext == "swf":
        return {"flash"}
    if duration is not None:
        return {"animated", f"animated_{file_ext}"} if file_ext in ("gif", "png") else {"animated"}
    return set()


CHARACTERS = (
    frozenset(persona.name for persona in PERSONAE)
    | frozenset(STALE_ALIASES.values())
    | {FESTIVAL, FUSION, *SIBLINGS, *CROWD}
)
"""Every character tag of the board."""

COPYRIGHTS = frozenset(persona.copyright for persona in PERSONAE) | {"original"}
"""Every copyright tag of the board; `original` stands for characters without a name."""


@functools.cache
def category(name: str) -> str:
    """Returns the category of a tag: a key of `record.CATEGORIES`, general for unknown tags."""
    if name in CHARACTERS:
        return "character"
    if name in COPYRIGHTS:
        return "copyright"
    if name.startswith("artist_"):
        return "artist"
    return "meta" if name in _META else "general"
