"""
The tag rules, each a small function whose name is its reason code.

A rule takes the `PostFacts` of one post. It returns None if the post passes, else a `RuleRefusal`.
Every rule is evaluated, whatever the others return. The order of tags never matters.

The meaning of a tag is that of its page in the board's wiki
(https://danbooru.donmai.us/wiki_pages/TAG). Most rules refuse posts with certain tags; on a board
without these tags they refuse nothing. `not_solo` and `person_count` require tags.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from scraper.post import PostDecision

STAGE = "decide"


@dataclass(frozen=True, slots=True)
class PostFacts:
    """
    The properties of one post that the rules look at.

    A tag can imply a more general tag: on Danbooru `toki_(bunny)_(blue_archive)` implies
    `toki_(blue_archive)`. A post with both has the first as its leaf and the second as its base.

    Attributes:
        post_id: The post.
        tags: The current name of every tag, of all categories.
        leaves: Character tags that no other character tag of the post implies.
        bases: For a single leaf: the most general tags that it implies, or itself if it implies
            none.
        rating: g, s, q or e.
        file_ext: Type of the original, as the board names it.
        width: Of the original, in pixels.
        height: Of the original, in pixels.
        duration_seconds: Of a moving image; None for a still one.
        is_hidden: The board shows neither checksum nor URL.
        is_labelled: The label comes from a folder of images, so no tag states who and how many
            are in the image.
    """

    post_id: int
    tags: frozenset[str]
    leaves: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    rating: str = "g"
    file_ext: str = "jpg"
    width: int = 1
    height: int = 1
    duration_seconds: float | None = None
    is_hidden: bool = False
    is_deleted: bool = False
    is_banned: bool = False
    is_pending: bool = False
    is_flagged: bool = False
    is_labelled: bool = False


@dataclass(frozen=True, slots=True)
class RuleLimits:
    """
    The values that the rules compare with.

    Attributes:
        ratings: Ratings that are kept.
        file_types: Types of original that are kept.
        min_side: Smallest shorter side of the original, in pixels.
        max_aspect: Largest ratio of longer to shorter side.
        refuse_tags: Further tags that refuse a post.
        excluded: Ids of posts that the user refuses.
    """

    ratings: frozenset[str]
    file_types: frozenset[str]
    min_side: int
    max_aspect: float
    refuse_tags: frozenset[str]
    excluded: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules that apply: their limits, those that are skipped, and tags that all of them ignore."""

    limits: RuleLimits
    skip: frozenset[str] = frozenset()
    accepted: frozenset[str] = frozenset()


class RuleRefusal(NamedTuple):
    """The value and the limit, for rules with a limit; else None."""

    measured: float | None = None
    threshold: float | None = None


Rule = Callable[[PostFacts, RuleLimits], RuleRefusal | None]

_REFUSED = RuleRefusal()


def _tags(text: str) -> frozenset[str]:
    return frozenset(text.split())


ONE_PERSON = frozenset({"1girl", "1boy", "1other"})
# Number of people that a tag states; `multiple_*` is two at least, and `6+` six at least.
SEVERAL_PEOPLE = {
    **{f"{count}{kind}": count for kind in ("girls", "boys", "others") for count in range(2, 6)},
    **{f"6+{kind}": 6 for kind in ("girls", "boys", "others")},
    **{f"multiple_{kind}": 2 for kind in ("girls", "boys", "others")},
}
COMIC = _tags(
    "comic 2koma 3koma 4koma 5koma 6koma multiple_2koma multiple_3koma multiple_4koma silent_comic "
    "full_page_comic segmented_comic vertical_scroll_comic borderless_panels sequential"
)
MONOCHROME = _tags(
    "monochrome greyscale sepia spot_color partially_colored greyscale_with_colored_background"
)
COSPLAY = _tags("cosplay cosplay_photo costume_switch kigurumi")
SEVERAL_VIEWS = _tags(
    "multiple_views turnaround reference_sheet variations multiple_expressions dual_persona "
    "multiple_persona clone time_paradox age_comparison different_reflection cut-in "
    "projected_inset zoom_layer collage sprite_sheet column_lineup"
)
NOT_A_DRAWING = _tags(
    "photo_(medium) cosplay_photo screenshot game_screenshot figure nendoroid text-only_page "
    "no_humans still_life scenery"
)
MACHINE_MADE = _tags("ai-generated ai-assisted third-party_edit upscaled")
DAMAGED = _tags("corrupted_image duplicate pixel-perfect_duplicate lowres image_sample")
MOVING = _tags("animated animated_gif animated_png video ugoira flash sound")
UNFINISHED = _tags("tagme character_request character_counter_request")
EXTREME = _tags("wide_image tall_image")
# Plain, of no stated colour: the one background tag that agrees with white.
AGREES_WITH_WHITE = frozenset({"white_background", "simple_background"})
BORDERS = frozenset({"outside_border", "border", "white_border"})


def hidden(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a post whose file the board does not show."""
    return _REFUSED if facts.is_hidden else None


def deleted(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a deleted post: what the board removed does not enter a data set."""
    return _REFUSED if facts.is_deleted else None


def banned(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a post of an artist who asked for removal."""
    return _REFUSED if facts.is_banned else None


def pending(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a post that waits for approval; many of them are deleted after three days."""
    return _REFUSED if facts.is_pending else None


def flagged(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a post that was flagged for deletion."""
    return _REFUSED if facts.is_flagged else None


def rating(facts: PostFacts, limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a post whose rating is not among `limits.ratings`."""
    return None if facts.rating in limits.ratings else _REFUSED


def file_type(facts: PostFacts, limits: RuleLimits) -> RuleRefusal | None:
    """Rejects an original whose type is not among `limits.file_types`."""
    return None if facts.file_ext in limits.file_types else _REFUSED


def animated(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a moving image, by its tags or its duration in seconds."""
    if facts.duration_seconds is not None:
        return RuleRefusal(facts.duration_seconds, 0.0)
    return _any_of(facts, MOVING)


def not_solo(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a post without the tag `solo`, or with `solo_focus` (several people, one in focus)."""
    if facts.is_labelled:
        return None
    return None if "solo" in facts.tags and "solo_focus" not in facts.tags else _REFUSED


def person_count(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a post whose tags state another number of people than 1."""
    if facts.is_labelled:
        return None
    several = sum(SEVERAL_PEOPLE[tag] for tag in SEVERAL_PEOPLE.keys() & facts.tags)
    people = len(ONE_PERSON & facts.tags) + several
    return None if people == 1 else RuleRefusal(people, 1)


def no_persona(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a post without any character tag: it has no label."""
    return None if facts.leaves else RuleRefusal(0, 1)


def two_personas(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a post with two or more leaves among its character tags."""
    leaves = len(facts.leaves)
    return RuleRefusal(leaves, 1) if leaves > 1 else None


def two_bases(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a form that implies two characters: the label would be ambiguous."""
    bases = len(facts.bases)
    return RuleRefusal(bases, 1) if len(facts.leaves) == 1 and bases != 1 else None


def comic(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects comics, which show one persona several times and in panels."""
    return _any_of(facts, COMIC)


def monochrome_tag(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects images tagged as grey or of one colour; pixels are checked by curation."""
    return _any_of(facts, MONOCHROME)


def cosplay(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a character dressed as another one, by tag or by the suffix `_(cosplay)`."""
    if any(tag.endswith("_(cosplay)") for tag in facts.tags):
        return _REFUSED
    return _any_of(facts, COSPLAY)


def several_views(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects images that show the same persona more than once."""
    return _any_of(facts, SEVERAL_VIEWS)


def not_a_drawing(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects photographs, screenshots, figurines, text and scenery."""
    return _any_of(facts, NOT_A_DRAWING)


def machine_made(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects images that a machine made, or that were edited after publication."""
    return _any_of(facts, MACHINE_MADE)


def damaged_tag(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects posts tagged as damaged, duplicate or too small."""
    return _any_of(facts, DAMAGED)


def unfinished_tags(facts: PostFacts, _limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a post whose tags request more tags: absent tags mean nothing there."""
    return _any_of(facts, UNFINISHED)


def small(facts: PostFacts, limits: RuleLimits) -> RuleRefusal | None:
    """Rejects an original whose shorter side has fewer than `min_side` pixels."""
    side = min(facts.width, facts.height)
    return RuleRefusal(side, limits.min_side) if side < limits.min_side else None


def extreme_shape(facts: PostFacts, limits: RuleLimits) -> RuleRefusal | None:
    """Rejects strips: a ratio of sides above `max_aspect`, or the board's tag for it."""
    aspect = max(facts.width, facts.height) / max(1, min(facts.width, facts.height))
    if aspect > limits.max_aspect:
        return RuleRefusal(aspect, limits.max_aspect)
    return _any_of(facts, EXTREME)


def refused_tag(facts: PostFacts, limits: RuleLimits) -> RuleRefusal | None:
    """Rejects a post with a tag that the parameters name."""
    return _any_of(facts, limits.refuse_tags)


def excluded(facts: PostFacts, limits: RuleLimits) -> RuleRefusal | None:
    """Refuses the posts that the user excludes by id."""
    return _REFUSED if facts.post_id in limits.excluded else None


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        hidden,
        deleted,
        banned,
        pending,
        flagged,
        rating,
        file_type,
        animated,
        not_solo,
        person_count,
        no_persona,
        two_personas,
        two_bases,
        comic,
        monochrome_tag,
        cosplay,
        several_views,
        not_a_drawing,
        machine_made,
        damaged_tag,
        unfinished_tags,
        small,
        extreme_shape,
        refused_tag,
        excluded,
    )
}

# Without these there is no file to fetch or no label to give.
INDISPENSABLE = frozenset({"hidden", "no_persona", "two_personas", "two_bases"})


def refusals(
    facts: PostFacts, limits: RuleLimits, *, skip: Collection[str] = ()
) -> list[PostDecision]:
    """Evaluates every rule that is not in `skip`; returns one decision per rule that rejects."""
    decisions = []
    for reason, rule in RULES.items():
        if reason not in skip and (refusal := rule(facts, limits)) is not None:
            decisions.append(
                PostDecision(
                    post_id=facts.post_id,
                    stage=STAGE,
                    kept=False,
                    reason=reason,
                    measured=refusal.measured,
                    threshold=refusal.threshold,
                )
            )
    return decisions


def white_background_tag(tags: frozenset[str]) -> bool:
    """
    Returns whether the tags state a white background.

    True for `white_background` without a tag of another background or of a border: an image with
    both is mixed.
    """
    return (
        "white_background" in tags
        and BORDERS.isdisjoint(tags)
        and not any(tag.endswith("_background") and tag not in AGREES_WITH_WHITE for tag in tags)
    )


def _any_of(facts: PostFacts, tags: frozenset[str]) -> RuleRefusal | None:
    return None if tags.isdisjoint(facts.tags) else _REFUSED
