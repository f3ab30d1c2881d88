"""
The posts that the scraper's filters must refuse: one plant per kind of refusal, with its reasons.

A plant describes how a post differs from a good post. Every board holds each plant at least once.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """The differences between a post that must be refused and a good post."""

    reasons: tuple[str, ...]
    """Reason codes that the decision must contain; it may contain more."""
    add: tuple[str, ...] = ()
    """Tags that a good post does not have; `{other}` stands for a second persona."""
    drop: tuple[str, ...] = ()
    """Tags of a good post that are left out."""
    kind: str = "portrait"
    """Composition of the image, one of `drawing.KINDS`."""
    others: int = 0
    """Number of personae besides the main persona."""
    tag_others: bool = False
    """Whether the post has the character tags of the other personae."""
    flags: tuple[str, ...] = ()
    """Status flags: pending, flagged, deleted, banned."""
    rating: str = "g"
    """First letter of general, sensitive, questionable or explicit."""
    file_ext: str | None = None
    """File type of the original; None keeps the type of a good post."""
    mode: str = "rgb"
    """How pixels are stored, as in `FileRecipe.mode`."""
    duration: float | None = None
    """Seconds of an animation, or None for a still image."""
    size: tuple[int, int] | None = None
    """Width and height of the original in pixels; None keeps the size of a good post."""
    monochrome: bool = False
    """Whether the image is drawn in grey or in one hue."""
    damage: str | None = None
    """How the file is damaged, as in `FileRecipe.damage`."""


GOOD = Plant(reasons=())
"""A good post: no difference."""


def _tagged(reason: str, *names: str, **more: str | bool) -> tuple[Plant, ...]:
    """Returns one plant per tag in `names`, each refused for that tag only."""
    return tuple(
        Plant(reasons=(reason,), add=(name,), **more)  # type: ignore[arg-type]  # keywords of Plant
        for name in names
    )


PLANTS: tuple[Plant, ...] = (
    Plant(reasons=("hidden", "banned"), flags=("banned",)),
    Plant(reasons=("hidden",), add=("patron_preview",)),
    Plant(reasons=("deleted",), flags=("deleted",)),
    Plant(reasons=("deleted", "flagged"), flags=("deleted", "flagged")),
    Plant(reasons=("pending",), flags=("pending",)),
    Plant(reasons=("flagged",), flags=("flagged",)),
    Plant(reasons=("rating",), rating="s"),
    Plant(reasons=("rating",), rating="q"),
    Plant(reasons=("file_type", "animated"), file_ext="mp4", duration=12.5),
    Plant(reasons=("file_type", "animated"), file_ext="zip", duration=2.4),
    Plant(reasons=("file_type",), file_ext="swf"),
    Plant(reasons=("file_type",), file_ext="gif"),
    Plant(reasons=("animated",), file_ext="webp", mode="animated", duration=1.0),
    Plant(reasons=("not_solo",), add=("solo_focus",), drop=("solo",), kind="crowd", others=2),
    Plant(
        reasons=("not_solo", "person_count", "two_personas"),
        add=("2girls", "multiple_girls"),
        drop=("solo", "1girl", "1boy"),
        kind="crowd",
        others=1,
        tag_others=True,
    ),
    Plant(
        reasons=("not_solo", "person_count", "two_personas"),
        add=("3girls", "multiple_girls"),
        drop=("solo", "1girl", "1boy"),
        kind="crowd",
        others=2,
        tag_others=True,
    ),
    Plant(reasons=("person_count",), add=("1girl", "1boy"), kind="crowd", others=1),
    Plant(reasons=("two_personas",), others=1, tag_others=True),
    *_tagged("comic", "4koma", "2koma", "silent_comic", "comic", kind="comic"),
    Plant(reasons=("comic", "not_solo"), add=("comic",), drop=("solo",), kind="comic"),
    Plant(reasons=("monochrome_tag",), add=("greyscale",), monochrome=True, mode="grey"),
    *_tagged("monochrome_tag", "greyscale", "monochrome", "sepia", monochrome=True),
    *_tagged("monochrome_tag", "spot_color", "partially_colored"),
    Plant(
        reasons=("cosplay", "two_personas"), add=("{other}_(cosplay)",), kind="cosplay", others=1
    ),
    Plant(
        reasons=("cosplay",), add=("{other}_(cosplay)",), kind="cosplay", others=1, tag_others=True
    ),
    *_tagged("cosplay", "kigurumi", "costume_switch"),
    *_tagged("several_views", "multiple_views", "turnaround", "reference_sheet", kind="views"),
    *_tagged("several_views", "multiple_persona", "variations", kind="views"),
    *_tagged("not_a_drawing", "screenshot", "photo_(medium)", "figure", "text-only_page"),
    *_tagged("machine_made", "ai-generated", "third-party_edit", "upscaled"),
    *_tagged("damaged_tag", "corrupted_image", "duplicate", "image_sample"),
    *_tagged("unfinished_tags", "character_request", "tagme"),
    Plant(reasons=("small", "damaged_tag"), size=(120, 160)),
    Plant(reasons=("small",), size=(230, 540)),
    Plant(reasons=("extreme_shape",), size=(1_300, 320)),
    Plant(reasons=("extreme_shape",), size=(280, 920)),
    Plant(reasons=("low_saturation",), monochrome=True),
    Plant(reasons=("low_saturation",), monochrome=True, file_ext="png"),
    Plant(reasons=("undecodable",), damage="undecodable"),
    Plant(reasons=("truncated",), damage="truncated"),
)
