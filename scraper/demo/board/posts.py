"""
Turns drafts into posts: assigns ids, times, scores and parents, and completes the tags.

Takes the counts of `Params` and returns the posts in order of id, with the truth of each post.
"""

import contextlib
import gc
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from scraper.demo.board.drafts import Author, Draft, dice, good_counts
from scraper.demo.facts import tags
from scraper.demo.facts.params import Params
from scraper.demo.facts.personae import PERSONAE
from scraper.demo.facts.record import CATEGORIES, DemoPost, Truth

_FIRST_ID = 10_001
_FIRST_MS = 1_672_531_200_000  # 2023-01-01
_LAST_MS = 1_790_000_000_000  # late in 2026
_DAY_MS = 86_400_000
_FAMILIES = {persona.name: persona.family for persona in PERSONAE}


def generate(params: Params) -> tuple[list[DemoPost], dict[int, Truth]]:
    """Returns the posts, ascending by id, and the truth of each post by its id."""
    with _without_collector():
        return _generate(params)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """
    Switches off Python's garbage collector, which took half of the time of `generate`.

    The collector searches the new objects for garbage again and again, but all of them stay.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _generate(params: Params) -> tuple[list[DemoPost], dict[int, Truth]]:
    author = Author(params.seed)
    drafts = [draft for name, count in good_counts(params) for draft in author.good(name, count)]
    author.mistag(drafts, share=params.mistagged_share)
    drafts += author.duplicates(drafts, share=params.duplicate_share)
    drafts += author.refused(params)
    drafts += author.without_persona(max(1, params.posts_minor))
    drafts.sort(key=lambda draft: draft.order)
    return _numbered(drafts, params.seed)


def _numbered(drafts: Sequence[Draft], seed: int) -> tuple[list[DemoPost], dict[int, Truth]]:
    rng = dice(f"{seed}:numbers")
    post_id = _FIRST_ID
    for draft in drafts:
        draft.post_id = post_id
        post_id += rng.choice((1, 1, 1, 2, 3))
    children: dict[int, list[Draft]] = {}
    for draft in drafts:
        if draft.parent is not None:
            children.setdefault(draft.parent.post_id, []).append(draft)
    step = (_LAST_MS - _FIRST_MS) / max(1, len(drafts))
    times = [_FIRST_MS + int(step * position) for position in range(len(drafts) + 1)]
    parents = tags.edges(tags.implications())
    posts = []
    for draft, (start, end) in zip(drafts, pairwise(times), strict=True):
        created = start + int((end - start) * rng.random())
        posts.append(_post(draft, created, children.get(draft.post_id, []), parents, rng))
    return posts, {draft.post_id: _truth(draft) for draft in drafts}


def _post(
    draft: Draft,
    created_ms: int,
    children: Sequence[Draft],
    parents: dict[str, tuple[str, ...]],
    rng: random.Random,
) -> DemoPost:
    plant, recipe = draft.plant, draft.recipe
    up_score, down_score = int(rng.expovariate(0.04)), -int(rng.expovariate(0.7))
    pixiv_id = rng.randint(60_000_000, 140_000_000) if rng.random() < 0.6 else None
    names = full_tags(
        draft.names,
        parents,
        size=(recipe.width, recipe.height),
        file_ext=recipe.file_ext,
        duration=plant.duration,
    )
    if rng.random() < 0.03 and draft.persona in parents and draft.persona in names:
        # A post that was saved before the implication existed has the form without its base.
        names -= tags.closure([draft.persona], parents) - {draft.persona}
    by_category = categorised(names)
    return DemoPost(
        post_id=draft.post_id,
        created_ms=created_ms,
        updated_ms=created_ms + int(_DAY_MS * rng.expovariate(0.1)),
        uploader_id=rng.randint(1_000, 1_400),
        up_score=up_score,
        down_score=down_score,
        # As on Danbooru, the score may differ from the sum: votes of deleted accounts stay.
        score=up_score + down_score + (rng.random() < 0.1),
        fav_count=int(up_score * rng.uniform(0.5, 1.5)),
        source=_source(draft, pixiv_id, rng),
        rating=plant.rating,
        width=recipe.width,
        height=recipe.height,
        file_ext=recipe.file_ext,
        duration=plant.duration,
        tags=by_category,
        recipe=recipe,
        parent_id=draft.parent.post_id if draft.parent else None,
        children=tuple(child.post_id for child in children),
        active_children=any("deleted" not in child.plant.flags for child in children),
        pixiv_id=pixiv_id,
        flags=frozenset(plant.flags),
        restricted=tags.RESTRICTED in names,
        all_tags=tuple(sorted(names)),
    )


def full_tags(
    names: Iterable[str],
    parents: dict[str, tuple[str, ...]],
    *,
    size: tuple[int, int],
    file_ext: str,
    duration: float | None,
) -> set[str]:
    """
    Returns the tags that a server stores when a user saves `names`.

    These are `names`, the tags that they imply, and the tags of the file's size and type.

    Args:
        names: Tags that the user types.
        parents: Antecedent to consequents, as `tags.edges` returns it.
        size: Width and height of the original, in pixels.
        file_ext: File type of the original.
        duration: Seconds of an animation, or None for a still image.
    """
    stored = tags.closure(names, parents) | tags.size_tags(*size)
    return stored | tags.file_tags(file_ext, duration)


def categorised(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Returns tag category to tag names, sorted by bytes; a category may be empty."""
    by_category: dict[str, list[str]] = {category: [] for category in CATEGORIES}
    for name in sorted(names):
        by_category[tags.category(name)].append(name)
    return {category: tuple(members) for category, members in by_category.items()}


def _source(draft: Draft, pixiv_id: int | None, rng: random.Random) -> str:
    if pixiv_id is not None:
        return f"https://pictures.example/works/{pixiv_id}_p{rng.randint(0, 3)}.png"
    roll = rng.random()
    if roll < 0.4:
        return ""
    if roll < 0.5:
        return f"画集 vol. {rng.randint(1, 9)} - page {rng.randint(1, 200)}"
    artist = next((name for name in draft.names if name.startswith("artist_")), "artist_00")
    return f"https://{artist.replace('_', '-')}.example/post/{rng.randint(1, 10**6)}"


def _truth(draft: Draft) -> Truth:
    drawn = draft.cast[0] if draft.persona else None
    return Truth(
        post_id=draft.post_id,
        persona=draft.persona,
        family=_FAMILIES[drawn] if drawn else None,
        cast=draft.cast,
        reasons=draft.reasons,
        mistagged=draft.mistagged,
        duplicate_of=draft.original.post_id if draft.original else None,
        duplicate=draft.duplicate,
        kind=draft.recipe.kind,
        ground=draft.recipe.ground,
        style=draft.recipe.style,
    )
