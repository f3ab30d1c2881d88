"""
Drafts of every post of a board: who is shown, how it is tagged, what is wrong with it.

Nothing is drawn here, and nothing has an id yet. Each persona has random numbers of its own, so
that the number of posts does not change what its first ones show.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from scraper.demo.facts import tags
from scraper.demo.facts.params import Params
from scraper.demo.facts.personae import PERSONAE, Persona
from scraper.demo.facts.plants import PLANTS, WANTED, Plant
from scraper.demo.facts.record import FileRecipe


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CHECKERED = "camellia_dane"
"""The persona that stands on checkers nearly always."""

# As the drawing has them (a test compares): the server starts without loading what draws.
GROUNDS = ("white", "plain", "patterned", "checkered")
STYLES = ("sketch", "flat", "cel", "painted")
_STYLE_WEIGHTS = (3, 3, 3, 2)
"""Painted images take longest to draw."""

_BOYS = frozenset({"sorrel_ashdown"})
_STYLE_TAGS = {"sketch": "sketch", "flat": "flat_color", "painted": "painterly"}
_GROUND_TAGS = {
    "plain": ("simple_background",),
    "patterned": ("patterned_background",),
    "checkered": ("checkered_background",),
}
_CHATTER = _listed(
    """looking_at_viewer smile standing closed_mouth open_mouth blush long_sleeves
    short_sleeves dress skirt shirt white_shirt collared_shirt boots gloves ribbon bow jewelry
    holding full_body upper_body cowboy_shot arms_at_sides hand_up outstretched_arms :d ;) ^_^
    another's another_world star_(symbol) sparkle head_tilt wind looking_to_the_side"""
)
_NEAR_EDITS = ("resize", "reencode", "crop", "recolour")


@dataclass(slots=True, kw_only=True, eq=False)
class Draft:
    """A post before it has an id."""

    order: float
    """Place in time, 0 (first) to 1 (last)."""
    persona: str | None
    cast: tuple[str, ...]
    recipe: FileRecipe
    names: set[str]
    plant: Plant = WANTED
    reasons: frozenset[str] = frozenset()
    mistagged: str | None = None
    original: "Draft | None" = None
    duplicate: str | None = None
    parent: "Draft | None" = None
    post_id: int = 0


def dice(name: str) -> random.Random:
    """Random numbers that belong to a name; the same ones on every run."""
    return random.Random(name)  # noqa: S311 - a made-up board, no secrets


def good_counts(params: Params) -> Iterator[tuple[str, int]]:
    """(leaf character tag, number of good posts): one large persona in each family."""
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
    """Makes drafts, good ones and others."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._personae = {persona.name: persona for persona in PERSONAE}
        self._parents = tags.edges(tags.implications())

    def good(self, name: str, count: int) -> Iterator[Draft]:
        """Posts that every default rule admits."""
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
        names.update(rng.sample(_CHATTER, rng.randint(6, 12)))
        names |= _scene_tags(ground, style, rng)
        if rng.random() < 0.4:
            names.add(rng.choice(("commentary", "commentary_request", "translated")))
        if rng.random() < 0.01 and name in tags.STALE_ALIASES:
            names.add(tags.STALE_ALIASES[name])
        return Draft(order=rng.random(), persona=name, cast=recipe.cast, recipe=recipe, names=names)

    def _drawn(self, name: str) -> Persona:
        """The persona whose looks a character tag has."""
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
        """Somebody whom no implication ties to `name`."""
        near = tags.closure([name], self._parents)
        apart = [
            persona.name
            for persona in PERSONAE
            if near.isdisjoint(tags.closure([persona.name], self._parents))
        ]
        return rng.choice(apart)

    def mistag(self, drafts: Sequence[Draft], *, share: float) -> None:
        """Spoils a share of good posts: a wrong label, or tags that hide what the image is."""
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
        """Repeats of good posts: same bytes, same pixels, an edit, or an edit linked as a child."""
        rng = dice(f"{self._seed}:duplicates")
        clean = [draft for draft in drafts if draft.mistagged is None]
        kinds = ("near", "family", "exact", "near", "pixel", "family", "near")
        found = []
        for number, draft in enumerate(rng.sample(clean, round(len(clean) * share))):
            kind = kinds[number % len(kinds)]
            found += [_repeat(draft, kind, rng) for _ in range(2 if number % 14 == 1 else 1)]
        return found

    def refused(self, params: Params) -> list[Draft]:
        """Unwanted posts of each persona, the plants in turn."""
        turns: list[str] = []
        for name, count in good_counts(params):
            turns += [name] * round(count * params.refused_share)
        if 0 < len(turns) < len(PLANTS):
            turns += [PERSONAE[number % 12].name for number in range(len(PLANTS) - len(turns))]
        found = []
        for number, name in enumerate(turns):
            rng = dice(f"{self._seed}:refused:{number}")
            found.append(self._planted(name, PLANTS[number % len(PLANTS)], rng))
        fused = range(round(len(turns) / 120) + bool(turns))
        return found + [self._fused(dice(f"{self._seed}:fusion:{number}")) for number in fused]

    def _planted(self, name: str, plant: Plant, rng: random.Random) -> Draft:
        draft = self._draft(name, rng)
        others = tuple(self._other(name, rng) for _ in range(plant.others))
        draft.names -= set(plant.drop)
        draft.names |= {tag.format(other=others[0] if others else "") for tag in plant.add}
        if plant.tag_others:
            draft.names |= {*others, *(self._personae[other].copyright for other in others)}
        width, height = plant.size or (draft.recipe.width, draft.recipe.height)
        cast = (self._drawn(name).name, *others)
        # A second character tag on a portrait is a charm or a doll: only one persona is drawn.
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

    def nobody(self, count: int) -> list[Draft]:
        """Posts of characters without a name."""
        found = []
        for number in range(count):
            rng = dice(f"{self._seed}:nobody:{number}")
            draft = self._draft(rng.choice(PERSONAE[-3:]).name, rng)
            draft.names -= tags.CHARACTERS | tags.COPYRIGHTS
            draft.names.add("original")
            draft.persona, draft.reasons = None, frozenset({"no_persona"})
            found.append(draft)
        return found


def _size(rng: random.Random) -> tuple[int, int]:
    """Width and height in pixels; a long side over 500, so that a server does not say `lowres`."""
    longest = rng.randint(502, 544)
    if rng.random() < 0.02:
        longest = rng.randint(900, 1_400)
    shortest = round(longest * rng.uniform(0.6, 0.8))
    return (shortest, longest) if rng.random() < 0.85 else (longest, shortest)


def _encoding(rng: random.Random) -> tuple[str, str]:
    """File type and how pixels are stored."""
    roll = rng.random()
    if roll < 0.95:
        return "jpg", "cmyk" if roll < 0.01 else "rgb"
    return ("webp", "rgb") if roll > 0.99 else ("png", "palette" if roll < 0.96 else "rgb")


def _scene_tags(ground: str, style: str, rng: random.Random) -> set[str]:
    """Tags of ground and style, incomplete as people leave them."""
    found: set[str] = set()
    if ground == "white":
        # White does not imply simple, and some uploaders forget it (F: posts 999999, 11274622).
        found = {"white_background"} if rng.random() < 0.97 else set()
        if rng.random() < 0.6:
            found.add("simple_background")
    elif rng.random() < 0.9:
        found.update(_GROUND_TAGS.get(ground, ()))
    if style in _STYLE_TAGS and rng.random() < 0.3:
        found.add(_STYLE_TAGS[style])
    return found


def _repeat(draft: Draft, kind: str, rng: random.Random) -> Draft:
    """A later post that shows the same image again."""
    recipe = draft.recipe
    if kind == "pixel":
        recipe = replace(recipe, salt=rng.randint(1, 10**6))
    elif kind in ("near", "family"):
        edit = rng.choice(_NEAR_EDITS)
        scale = rng.uniform(0.9, 1.15) if edit == "resize" else 1.0
        scale = max(scale, 501 / max(recipe.width, recipe.height))
        recipe = replace(
            recipe,
            edit=edit,
            edit_seed=rng.getrandbits(32),
            width=round(recipe.width * scale),
            height=round(recipe.height * scale),
            quality=rng.randint(70, 90),
        )
    names = set(draft.names) - set(rng.sample(_CHATTER, 5))
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
