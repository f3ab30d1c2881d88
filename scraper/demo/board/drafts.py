"""
Drafts of the posts of a board: the recipe of the image, the tags, and what is wrong on purpose.

A draft has no id yet, and nothing is drawn here. Each persona has its own random stream, so that
a board with more posts of a persona begins with the same posts.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from scraper.demo.facts import tags
from scraper.demo.facts.params import Params
from scraper.demo.facts.personae import PERSONAE, Persona
from scraper.demo.facts.plants import GOOD, PLANTS, Plant
from scraper.demo.facts.record import FileRecipe


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CHECKERED = "camellia_dane"
"""
The persona with a checkered background in at least 93 % of its posts.

It is a planted shortcut: a classifier may learn the background instead of the persona.
"""

# Copies of the tuples in `painter.drawing`, compared by a test. The server would start more slowly
# if it imported the drawing code.
GROUNDS = ("white", "plain", "patterned", "checkered")
STYLES = ("sketch", "flat", "cel", "painted")
_STYLE_WEIGHTS = (3, 3, 3, 2)
"""Painted images are rarer because they take longest to draw."""

_BOYS = frozenset({"sorrel_ashdown"})
_STYLE_TAGS = {"sketch": "sketch", "flat": "flat_color", "painted": "painterly"}
_GROUND_TAGS = {
    "plain": ("simple_background",),
    "patterned": ("patterned_background",),
    "checkered": ("checkered_background",),
}
_GENERAL_TAGS = _words(
    """looking_at_viewer smile standing closed_mouth open_mouth blush long_sleeves
    short_sleeves dress skirt shirt white_shirt collared_shirt boots gloves ribbon bow jewelry
    holding full_body upper_body cowboy_shot arms_at_sides hand_up outstretched_arms :d ;) ^_^
    another's another_world star_(symbol) sparkle head_tilt wind looking_to_the_side"""
)
"""Tags that say nothing about persona, background or style."""
_NEAR_EDITS = ("resize", "reencode", "crop", "recolour")
_NOT_LOWRES = 501
"""Shortest long side, in pixels, that does not get the tag `lowres`."""


@dataclass(slots=True, kw_only=True, eq=False)
class Draft:
    """A post before it has an id."""

    order: float
    """Position in time, from 0 (first) to 1 (last)."""
    persona: str | None
    """Leaf character tag of the persona in the image; None unless there is exactly one."""
    cast: tuple[str, ...]
    """Names of the personae in the image, the main persona first."""
    recipe: FileRecipe
    names: set[str]
    """Tags that the uploader types; implied tags are added later."""
    plant: Plant = GOOD
    reasons: frozenset[str] = frozenset()
    """Reason codes that the decisions must contain."""
    mistagged: str | None = None
    """Kind of wrong tags, as in `Truth.mistagged`."""
    original: "Draft | None" = None
    """The draft whose image is repeated."""
    duplicate: str | None = None
    """Kind of duplicate, as in `Truth.duplicate`."""
    parent: "Draft | None" = None
    """The draft of the parent post."""
    post_id: int = 0
    """Id of the post; 0 until it is assigned."""


def dice(name: str) -> random.Random:
    """Returns the random stream of a name: the same numbers on every run."""
    return random.Random(name)  # noqa: S311 - a made-up board, no secrets


def good_counts(params: Params) -> Iterator[tuple[str, int]]:
    """
    Yields pairs of leaf character tag and number of good posts.

    The first persona of each family gets `posts_large`, the others `posts_small`. Minor personae
    get `posts_minor`, and the form of a form a third of that.
    """
    families: set[str] = set()
    for persona in PERSONAE:
        if persona.family == "minor":
            yield persona.name, params.posts_minor
        else:
            yield (
                persona.name,
                (params.posts_small if persona.family in families else params.posts_large),
            )
            families.add(persona.family)
    yield tags.FESTIVAL, max(1, params.posts_minor // 3)


class Author:
    """Makes the drafts of a board: good posts, duplicates and posts that must be refused."""

    def __init__(self, seed: int) -> None:
        """Takes the random seed of the board, a part of the name of every random stream."""
        self._seed = seed
        self._personae = {persona.name: persona for persona in PERSONAE}
        self._parents = tags.edges(tags.implications())

    def good(self, name: str, count: int) -> Iterator[Draft]:
        """Yields `count` posts of character tag `name` that the default rules keep."""
        rng = dice(f"{self._seed}:{name}")
        for _ in range(count):
            yield self._draft(name, rng)

    def _draft(self, name: str, rng: random.Random) -> Draft:
        drawn = self._drawn(name)
        ground = self._ground(drawn.name, rng)
        style = rng.choices(STYLES, _STYLE_WEIGHTS)[0]
        width, height = _size(rng)
        file_ext, mode = _encoding(rng)
        recipe = FileRecipe(
            cast=(drawn.name,),
            ground=ground,
            style=style,
            seed=rng.getrandbits(48),
            width=width,
            height=height,
            file_ext=file_ext,
            mode=mode,
            quality=rng.randint(82, 93),
        )
        names = {name, drawn.copyright, f"artist_{rng.randint(1, 60):02d}"}
        names |= {"solo", "1boy" if name in _BOYS else "1girl"}
        names.update(rng.sample(_GENERAL_TAGS, rng.randint(6, 12)))
        names |= _scene_tags(ground, style, rng)
        if rng.random() < 0.4:
            names.add(rng.choice(("commentary", "commentary_request", "translated")))
        if rng.random() < 0.01 and name in tags.STALE_ALIASES:
            names.add(tags.STALE_ALIASES[name])
        return Draft(order=rng.random(), persona=name, cast=recipe.cast, recipe=recipe, names=names)

    def _drawn(self, name: str) -> Persona:
        """Returns the persona that is drawn for a character tag."""
        if name in self._personae:
            return self._personae[name]
        return self._personae[self._parents[name][0]]

    def _ground(self, name: str, rng: random.Random) -> str:
        roll = rng.random()
        if name == CHECKERED and roll < 0.93:
            return "checkered"
        weights = [{"white": 4.0, "checkered": 1.0}.get(ground, 2.0) for ground in GROUNDS]
        return rng.choices(GROUNDS, weights)[0]

    def _other(self, name: str, rng: random.Random) -> str:
        """Returns a random persona that shares no implied tag with `name`."""
        near = tags.closure([name], self._parents)
        apart = [
            persona.name
            for persona in PERSONAE
            if near.isdisjoint(tags.closure([persona.name], self._parents))
        ]
        return rng.choice(apart)

    def mistag(self, drafts: Sequence[Draft], *, share: float) -> None:
        """
        Gives a share of good posts wrong tags.

        Of each four, two show another persona than their tags, one lacks the tag `solo`, and one
        is a comic or a page of several views without the tags of it.

        Args:
            drafts: Good drafts, changed in place.
            share: Share of `drafts` that is changed, 0 to 1.
        """
        rng = dice(f"{self._seed}:mistag")
        for number, draft in enumerate(rng.sample(list(drafts), round(len(drafts) * share))):
            name = draft.persona or ""
            if number % 4 in (0, 1):
                alike = self._drawn(name).look_alike or self._other(name, rng)
                draft.recipe = replace(draft.recipe, cast=(alike,))
                draft.cast, draft.persona, draft.mistagged = (alike,), alike, "wrong_persona"
            elif number % 4 == 2:
                draft.names.discard("solo")
                draft.mistagged, draft.reasons = "wrongly_refused", frozenset({"not_solo"})
            else:
                kind = "comic" if number % 8 == 3 else "views"
                draft.recipe = replace(draft.recipe, kind=kind)
                draft.mistagged = "wrongly_kept"

    def duplicates(self, drafts: Sequence[Draft], *, share: float) -> list[Draft]:
        """
        Returns later posts that repeat good posts.

        An `exact` duplicate has equal bytes, a `pixel` duplicate equal pixels. A `near` duplicate
        is edited, and a `family` duplicate is edited and a child of the post that it repeats.

        Args:
            drafts: Good drafts; drafts with wrong tags are not repeated.
            share: Number of drafts that are repeated, per draft, 0 to 1.
        """
        rng = dice(f"{self._seed}:duplicates")
        clean = [draft for draft in drafts if draft.mistagged is None]
        kinds = ("near", "family", "exact", "near", "pixel", "family", "near")
        repeats = []
        for number, draft in enumerate(rng.sample(clean, round(len(clean) * share))):
            kind = kinds[number % len(kinds)]
            # Every 14th image is posted three times, so that families of duplicates occur.
            repeats += [_repeat(draft, kind, rng) for _ in range(2 if number % 14 == 1 else 1)]
        return repeats

    def refused(self, params: Params) -> list[Draft]:
        """
        Returns posts that the filters must refuse.

        Each persona gets `params.refused_share` of its good posts; the plants take turns. A small
        board gets more posts, so that it holds every plant at least once.
        """
        turns: list[str] = []
        for name, count in good_counts(params):
            turns += [name] * round(count * params.refused_share)
        if 0 < len(turns) < len(PLANTS):
            turns += [PERSONAE[number % 12].name for number in range(len(PLANTS) - len(turns))]
        drafts = []
        for number, name in enumerate(turns):
            rng = dice(f"{self._seed}:refused:{number}")
            drafts.append(self._planted(name, PLANTS[number % len(PLANTS)], rng))
        fused = range(round(len(turns) / 120) + bool(turns))
        return drafts + [self._fused(dice(f"{self._seed}:fusion:{number}")) for number in fused]

    def _planted(self, name: str, plant: Plant, rng: random.Random) -> Draft:
        draft = self._draft(name, rng)
        others = tuple(self._other(name, rng) for _ in range(plant.others))
        draft.names -= set(plant.drop)
        draft.names |= {tag.format(other=others[0] if others else "") for tag in plant.add}
        if plant.tag_others:
            draft.names |= {*others, *(self._personae[other].copyright for other in others)}
        width, height = plant.size or (draft.recipe.width, draft.recipe.height)
        cast = (self._drawn(name).name, *others)
        # The second character tag of a portrait stands for a charm or a doll, which is not drawn.
        draft.cast = cast if plant.kind != "portrait" else cast[:1]
        plain = plant.damage or plant.monochrome
        draft.recipe = replace(
            draft.recipe,
            cast=draft.cast,
            kind=plant.kind,
            width=width,
            height=height,
            monochrome=plant.monochrome,
            file_ext=plant.file_ext or ("jpg" if plain else draft.recipe.file_ext),
            mode=plant.mode
            if plain or plant.file_ext or plant.mode != "rgb"
            else draft.recipe.mode,
            damage=plant.damage,
        )
        draft.plant, draft.reasons = plant, frozenset(plant.reasons)
        if len(set(draft.cast)) > 1:
            draft.persona = None
        return draft

    def _fused(self, rng: random.Random) -> Draft:
        draft = self._draft("lenore_halewyn", rng)
        draft.names |= {tags.FUSION}
        draft.persona, draft.reasons = None, frozenset({"two_bases"})
        return draft

    def without_persona(self, count: int) -> list[Draft]:
        """Returns `count` posts of characters without a character tag."""
        drafts = []
        for number in range(count):
            rng = dice(f"{self._seed}:nobody:{number}")
            draft = self._draft(rng.choice(PERSONAE[-3:]).name, rng)
            draft.names -= tags.CHARACTERS | tags.COPYRIGHTS
            draft.names.add("original")
            draft.persona, draft.reasons = None, frozenset({"no_persona"})
            drafts.append(draft)
        return drafts


def _size(rng: random.Random) -> tuple[int, int]:
    """Returns width and height in pixels: the long side exceeds the 500 of the tag `lowres`."""
    longest = rng.randint(502, 544)
    if rng.random() < 0.02:
        longest = rng.randint(900, 1_400)
    shortest = round(longest * rng.uniform(0.6, 0.8))
    return (shortest, longest) if rng.random() < 0.85 else (longest, shortest)


def _encoding(rng: random.Random) -> tuple[str, str]:
    """Returns the file type and how pixels are stored, as in `FileRecipe.mode`."""
    roll = rng.random()
    if roll < 0.95:
        return "jpg", "cmyk" if roll < 0.01 else "rgb"
    return ("webp", "rgb") if roll > 0.99 else ("png", "palette" if roll < 0.96 else "rgb")


def _scene_tags(ground: str, style: str, rng: random.Random) -> set[str]:
    """Returns tags of the background and the style, incomplete as uploaders leave them."""
    names: set[str] = set()
    if ground == "white":
        # No implication leads from white_background to simple_background, and uploaders forget
        # one of them: posts 999999 and 11274622 of danbooru.donmai.us have the first only.
        names = {"white_background"} if rng.random() < 0.97 else set()
        if rng.random() < 0.6:
            names.add("simple_background")
    elif rng.random() < 0.9:
        names.update(_GROUND_TAGS.get(ground, ()))
    if style in _STYLE_TAGS and rng.random() < 0.3:
        names.add(_STYLE_TAGS[style])
    return names


def _repeat(draft: Draft, kind: str, rng: random.Random) -> Draft:
    """Returns a later draft that repeats the image of `draft`; `kind` as in `Truth.duplicate`."""
    recipe = draft.recipe
    if kind == "pixel":
        recipe = replace(recipe, salt=rng.randint(1, 10**6))
    elif kind in ("near", "family"):
        edit = rng.choice(_NEAR_EDITS)
        scale = rng.uniform(0.9, 1.15) if edit == "resize" else 1.0
        scale = max(scale, _NOT_LOWRES / max(recipe.width, recipe.height))
        recipe = replace(
            recipe,
            edit=edit,
            edit_seed=rng.getrandbits(32),
            width=round(recipe.width * scale),
            height=round(recipe.height * scale),
            quality=rng.randint(70, 90),
        )
    names = set(draft.names) - set(rng.sample(_GENERAL_TAGS, 5))
    return Draft(
        order=draft.order + (1 - draft.order) * rng.random(),
        persona=draft.persona,
        cast=draft.cast,
        recipe=recipe,
        names=names,
        original=draft,
        duplicate=kind,
        parent=draft if kind == "family" else None,
    )
