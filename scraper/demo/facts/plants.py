"""
The posts that filters must refuse: one line for each way of being unwanted, with its reasons.

A plant is a difference from a good post. Every board holds each plant at least once.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """How an unwanted post differs from a good one."""

    reasons: tuple[str, ...]
    """Codes that the post must get; others may come with them."""
    add: tuple[str, ...] = ()
    """Tags it has more than a good post; `{other}` is a second persona."""
    drop: tuple[str, ...] = ()
    """Tags it lacks."""
    kind: str = "portrait"
    """What is drawn, one of `drawing.KINDS`."""
    others: int = 0
    """Personae drawn beside the main one."""
    tag_others: bool = False
    """Whether those have their character tags too."""
    flags: tuple[str, ...] = ()
    rating: str = "g"
    file_ext: str | None = None
    mode: str = "rgb"
    duration: float | None = None
    size: tuple[int, int] | None = None
    """Width and height of the original, where they are the reason."""
    monochrome: bool = False
    damage: str | None = None


WANTED = Plant(reasons=())
"""A good post: no difference at all."""


def _tagged(reason: str, *names: str, **more: str | bool) -> tuple[Plant, ...]:
    """One plant per tag name, each refused for that tag alone."""
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
