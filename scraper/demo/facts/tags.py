"""
The demo board's vocabulary: categories, aliases, implications, and the tags that a server adds.

Tag behaviour follows Danbooru: saving a post adds `x` and `cosplay` for `x_(cosplay)`, then the
closure of active implications, then what follows from the size and type of the file.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scraper.demo.facts.personae import PERSONAE

COSPLAY = "_(cosplay)"

FESTIVAL = "eclipse_ayame_(festival)"
"""A form of a form: three levels of implication."""

FUSION = "lenore_&_isolde_(fusion)"
"""A form that implies two people."""

RESTRICTED = "patron_preview"
"""Files of posts with this tag are shown to Gold members only."""


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
"""Old name and its replacement, all active."""

STALE_ALIASES = {new: old for old, new in reversed(ALIASES) if new == "tsukishiro_ayame"}
"""Character tags under whose old name a few posts are still filed beside the new one."""


@dataclass(frozen=True, slots=True)
class TagRelation:
    """An alias or an implication as its table lists it."""

    relation_id: int
    antecedent: str
    consequent: str
    status: str
    """active, deleted or retired; only active ones have an effect."""


def implications() -> tuple[TagRelation, ...]:
    """Every edge, forms to base characters among them, two of them no longer active."""
    forms = tuple((persona.name, persona.base) for persona in PERSONAE if persona.base)
    active = forms + _CHARACTER_IMPLICATIONS + _GENERAL_IMPLICATIONS
    rows = [(one, two, "active") for one, two in active]
    rows.append(("camellia_dane", "momoka_sparrow", "deleted"))
    rows.append(("sketch", "monochrome", "retired"))
    return _relations(rows, first=210_000)


def aliases() -> tuple[TagRelation, ...]:
    """Every alias, one of them no longer active."""
    rows = [(old, new, "active") for old, new in ALIASES]
    rows.append(("yukine_vale", "isolde_farrow", "deleted"))
    return _relations(rows, first=180_000)


def _relations(rows: Iterable[tuple[str, str, str]], *, first: int) -> tuple[TagRelation, ...]:
    return tuple(
        TagRelation(first + 17 * position, one, two, status)
        for position, (one, two, status) in enumerate(rows)
    )


def edges(relations: Sequence[TagRelation]) -> dict[str, tuple[str, ...]]:
    """Active relations as a mapping from antecedent to its consequents."""
    found: dict[str, tuple[str, ...]] = {}
    for relation in relations:
        if relation.status == "active":
            found[relation.antecedent] = (*found.get(relation.antecedent, ()), relation.consequent)
    return found


def closure(names: Iterable[str], parents: Mapping[str, tuple[str, ...]]) -> set[str]:
    """`names`, what `x_(cosplay)` brings with it, and everything that they imply."""
    reached = set(names)
    waiting = [name for name in reached if name in parents or name.endswith(COSPLAY)]
    while waiting:
        name = waiting.pop()
        above = parents.get(name, ())
        if name.endswith(COSPLAY):
            above = (*above, name.removesuffix(COSPLAY), "cosplay")
        for one in above:
            if one not in reached:
                reached.add(one)
                waiting.append(one)
    return reached


def size_tags(width: int, height: int) -> set[str]:
    """Tags that follow from the size of the original (Danbooru `Post#add_automatic_tags`)."""
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
    """Tags that follow from the type of the original."""
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
    | {FESTIVAL, FUSION}
)
COPYRIGHTS = frozenset(persona.copyright for persona in PERSONAE) | {"original"}


@functools.cache
def category(name: str) -> str:
    """Category of a tag of the demo's own vocabulary; general by default."""
    if name in CHARACTERS:
        return "character"
    if name in COPYRIGHTS:
        return "copyright"
    if name.startswith("artist_"):
        return "artist"
    return "meta" if name in _META else "general"
