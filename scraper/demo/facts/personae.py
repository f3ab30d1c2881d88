"""
The cast of the demo board: the characters, their families, and the features that are drawn.

Twelve major personae form four families of three. The members of a family share hair colour,
outfit cut and silhouette, and two of them are look-alikes. Three minor personae have fewer posts
than a data set needs. Every character is invented for this board.
"""

from dataclasses import dataclass

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """A character to recognise: its tags, its family, and the features that are drawn."""

    name: str
    """Character tag."""
    family: str
    """Visual family. No tag of a post contains it or determines it."""
    copyright: str
    """Copyright tag. Each copyright has members of several families."""
    base: str | None = None
    """Character tag that this form implies, or None for a base character."""
    look_alike: str | None = None
    """Name of the persona that differs in small details only, or None."""
    hair: str
    """Shape of the hair, a key of `hair.BACKS`."""
    other_hair: str
    """Shape of the hair in 13 % of the drawings: the usual shape of another family member."""
    bangs: str
    """Shape of the hair over the forehead, a key of `hair.BANGS`."""
    hair_colour: Colour
    eyes: Colour
    skin: Colour = (250, 222, 200)
    outfit: str
    """Cut of the clothes, a key of `outfit.OUTFITS`."""
    main: Colour
    """Main colour of the clothes."""
    trim: Colour
    """Colour of collars, hems and socks."""
    accent: Colour
    """Colour of small parts, such as bows."""
    accessory: str
    """Object that is worn or carried, a key of `accessory.WORN` or `accessory.CARRIED`."""
    accessory_colour: Colour


_NIGHT = (
    Persona(
        name="tsukishiro_ayame",
        family="night",
        copyright="starlit_academy",
        look_alike="eclipse_ayame",
        hair="long",
        other_hair="bob",
        bangs="blunt",
        hair_colour=(44, 40, 72),
        eyes=(132, 80, 200),
        outfit="sailor",
        main=(244, 244, 248),
        trim=(48, 62, 122),
        accent=(206, 52, 66),
        accessory="hairband",
        accessory_colour=(222, 60, 76),
    ),
    Persona(
        name="eclipse_ayame",
        family="night",
        copyright="starlit_academy",
        base="tsukishiro_ayame",
        look_alike="tsukishiro_ayame",
        hair="long",
        other_hair="bob",
        bangs="blunt",
        hair_colour=(44, 38, 66),
        eyes=(190, 60, 130),
        outfit="sailor",
        main=(240, 240, 246),
        trim=(46, 54, 112),
        accent=(190, 50, 80),
        accessory="horns",
        accessory_colour=(180, 40, 52),
    ),
    Persona(
        name="kurobane_shiori",
        family="night",
        copyright="tidal_saga",
        hair="bob",
        other_hair="long",
        bangs="swept",
        hair_colour=(40, 46, 80),
        eyes=(70, 120, 190),
        outfit="sailor",
        main=(244, 246, 250),
        trim=(40, 72, 120),
        accent=(200, 60, 70),
        accessory="glasses",
        accessory_colour=(60, 40, 44),
    ),
)

_GOLD = (
    Persona(
        name="lenore_halewyn",
        family="gold",
        copyright="clockwork_garden",
        look_alike="lenore_noir",
        hair="twintails",
        other_hair="drills",
        bangs="parted",
        hair_colour=(240, 204, 96),
        eyes=(60, 120, 214),
        outfit="apron",
        main=(58, 48, 66),
        trim=(246, 244, 240),
        accent=(60, 90, 190),
        accessory="headdress",
        accessory_colour=(250, 250, 250),
    ),
    Persona(
        name="lenore_noir",
        family="gold",
        copyright="clockwork_garden",
        base="lenore_halewyn",
        look_alike="lenore_halewyn",
        hair="twintails",
        other_hair="drills",
        bangs="parted",
        hair_colour=(232, 200, 112),
        eyes=(60, 164, 180),
        outfit="apron",
        main=(52, 42, 58),
        trim=(240, 238, 236),
        accent=(150, 50, 70),
        accessory="headdress",
        accessory_colour=(74, 50, 72),
    ),
    Persona(
        name="marigold_wickett",
        family="gold",
        copyright="starlit_academy",
        hair="drills",
        other_hair="twintails",
        bangs="blunt",
        hair_colour=(244, 192, 84),
        eyes=(70, 160, 90),
        outfit="apron",
        main=(70, 48, 62),
        trim=(248, 244, 236),
        accent=(70, 140, 80),
        accessory="tophat",
        accessory_colour=(52, 76, 58),
    ),
)

_SILVER = (
    Persona(
        name="isolde_farrow",
        family="silver",
        copyright="tidal_saga",
        look_alike="yukine_vale",
        hair="spiky",
        other_hair="short",
        bangs="swept",
        hair_colour=(214, 220, 232),
        eyes=(70, 150, 220),
        outfit="armour",
        main=(120, 134, 158),
        trim=(70, 84, 120),
        accent=(70, 130, 150),
        accessory="circlet",
        accessory_colour=(236, 196, 80),
    ),
    Persona(
        name="yukine_vale",
        family="silver",
        copyright="starlit_academy",
        look_alike="isolde_farrow",
        hair="spiky",
        other_hair="short",
        bangs="swept",
        hair_colour=(222, 222, 230),
        eyes=(120, 110, 210),
        outfit="armour",
        main=(126, 134, 152),
        trim=(76, 84, 116),
        accent=(80, 124, 150),
        accessory="eyepatch",
        accessory_colour=(50, 46, 60),
    ),
    Persona(
        name="sorrel_ashdown",
        family="silver",
        copyright="clockwork_garden",
        hair="short",
        other_hair="spiky",
        bangs="blunt",
        hair_colour=(206, 212, 220),
        eyes=(96, 170, 110),
        outfit="armour",
        main=(112, 126, 144),
        trim=(64, 80, 110),
        accent=(90, 130, 130),
        accessory="scarf",
        accessory_colour=(70, 120, 190),
    ),
)

_ROSE = (
    Persona(
        name="momoka_sparrow",
        family="rose",
        copyright="clockwork_garden",
        look_alike="ruri_blaise",
        hair="ponytail",
        other_hair="buns",
        bangs="spiky",
        hair_colour=(240, 130, 164),
        eyes=(222, 80, 130),
        outfit="frills",
        main=(250, 190, 210),
        trim=(255, 246, 250),
        accent=(230, 90, 140),
        accessory="ribbon",
        accessory_colour=(220, 60, 90),
    ),
    Persona(
        name="ruri_blaise",
        family="rose",
        copyright="tidal_saga",
        look_alike="momoka_sparrow",
        hair="ponytail",
        other_hair="buns",
        bangs="spiky",
        hair_colour=(236, 120, 150),
        eyes=(190, 80, 190),
        outfit="frills",
        main=(246, 186, 204),
        trim=(255, 244, 248),
        accent=(224, 100, 130),
        accessory="star",
        accessory_colour=(250, 206, 80),
    ),
    Persona(
        name="camellia_dane",
        family="rose",
        copyright="starlit_academy",
        hair="buns",
        other_hair="ponytail",
        bangs="parted",
        hair_colour=(226, 100, 120),
        eyes=(150, 90, 60),
        outfit="frills",
        main=(244, 176, 190),
        trim=(255, 240, 240),
        accent=(210, 70, 90),
        accessory="headphones",
        accessory_colour=(70, 70, 90),
    ),
)

# With `params.posts_minor` posts each: fewer than the scraper's `min_images`.
MINOR: tuple[Persona, ...] = (
    Persona(
        name="moss_oracle",
        family="minor",
        copyright="clockwork_garden",
        hair="long",
        other_hair="bob",
        bangs="parted",
        hair_colour=(96, 150, 92),
        eyes=(200, 160, 60),
        outfit="robe",
        main=(150, 110, 80),
        trim=(226, 214, 180),
        accent=(90, 120, 70),
        accessory="halo",
        accessory_colour=(150, 200, 120),
    ),
    Persona(
        name="hazel_postmark",
        family="minor",
        copyright="starlit_academy",
        hair="bob",
        other_hair="long",
        bangs="swept",
        hair_colour=(140, 88, 56),
        eyes=(110, 70, 40),
        outfit="hoodie",
        main=(226, 150, 70),
        trim=(250, 236, 210),
        accent=(90, 70, 60),
        accessory="catears",
        accessory_colour=(140, 88, 56),
    ),
    Persona(
        name="undine_reef",
        family="minor",
        copyright="tidal_saga",
        hair="twintails",
        other_hair="drills",
        bangs="spiky",
        hair_colour=(84, 190, 190),
        eyes=(30, 120, 140),
        skin=(222, 176, 146),
        outfit="hoodie",
        main=(70, 120, 170),
        trim=(230, 240, 244),
        accent=(250, 180, 70),
        accessory="sword",
        accessory_colour=(206, 214, 224),
    ),
)

MAJOR: tuple[Persona, ...] = _NIGHT + _GOLD + _SILVER + _ROSE
"""The twelve personae with enough posts for a data set, family by family."""

PERSONAE: tuple[Persona, ...] = MAJOR + MINOR
"""Every persona, the three minor ones last."""
