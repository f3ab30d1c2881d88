"""Tests the generated board: number of posts, truth, tags and their closure, determinism."""

from collections import Counter
from dataclasses import replace

import pytest

from scraper import filters, personae
from scraper.demo.board import booru, drafts, posts
from scraper.demo.board.booru import DemoBoard
from scraper.demo.board.drafts import CHECKERED
from scraper.demo.facts import clock, tags
from scraper.demo.facts.params import TINY, Params
from scraper.demo.facts.personae import PERSONAE
from scraper.demo.facts.plants import PLANTS
from scraper.demo.painter.drawing import EDITS, GROUNDS, KINDS, STYLES
from scraper.demo.painter.shelf import Shelf
from scraper.params.decide import Params as DecideParams

LATER = {"low_saturation", "undecodable", "truncated"}
"""Reason codes that only the pixels of an image reveal."""


def generated(params):
    return posts.generate(params)


@pytest.fixture(scope="module")
def tiny():
    return generated(TINY)


@pytest.fixture(scope="module")
def full():
    return generated(Params())


def refusals(post):
    """Returns the reasons of the scraper's rules for a post, and the leaf personae of its tags."""
    active = [relation for relation in tags.implications() if relation.status == "active"]
    kinship = personae.Kinship.from_pairs(
        [
            (relation.antecedent, relation.consequent)
            for relation in tags.aliases()
            if relation.status == "active"
        ],
        [(relation.antecedent, relation.consequent) for relation in active],
    )
    lineage = personae.lineage(
        kinship.canonical(post.tags["character"]), post.tags["copyright"], kinship
    )
    facts = filters.PostFacts(
        post_id=post.post_id,
        tags=kinship.canonical(post.all_tags),
        leaves=lineage.leaves,
        bases=lineage.bases,
        rating=post.rating,
        file_ext=post.file_ext,
        width=post.width,
        height=post.height,
        duration_seconds=post.duration,
        is_hidden=post.restricted or "banned" in post.flags,
        **{
            f"is_{flag}": flag in post.flags for flag in ("deleted", "banned", "pending", "flagged")
        },
    )
    return {
        refusal.reason for refusal in filters.refusals(facts, DecideParams().limits)
    }, lineage.leaves


def test_same_seed_same_posts(tiny):
    """A seed gives the same ids, times, tags and recipes on every run; another seed does not."""
    assert tiny == generated(TINY)
    assert tiny != generated(TINY.model_copy(update={"seed": 1}))


def test_the_default_board_reaches_a_thousand_for_four_personae(full):
    """Four personae have more than 1,000 good posts; all twelve major ones have at least 300."""
    good = Counter(
        truth.persona
        for truth in full[1].values()
        if not truth.reasons and not truth.mistagged and truth.duplicate is None
    )
    major = [persona.name for persona in PERSONAE if persona.family != "minor"]

    assert 4 == sum(good[name] > 1_000 for name in major)
    assert 12 == sum(good[name] >= 300 for name in major)
    assert 3 == sum(good[p.name] <= 60 for p in PERSONAE if p.family == "minor")


def test_every_plant_is_on_the_tiniest_board(tiny):
    """Even the smallest board has a post for every planted reason."""
    planted = {reason for truth in tiny[1].values() for reason in truth.reasons}

    assert {reason for plant in PLANTS for reason in plant.reasons} <= planted
    assert {"two_bases", "no_persona"} <= planted


@pytest.mark.parametrize("board", ["tiny", "full"])
def test_the_scrapers_rules_find_exactly_what_was_planted(board, request):
    """Every planted refusal is refused with its reason, and no other post is refused."""
    for post in request.getfixturevalue(board)[0]:
        truth = request.getfixturevalue(board)[1][post.post_id]
        reasons, leaves = refusals(post)
        if truth.reasons - LATER:
            assert truth.reasons - LATER <= reasons, post
        else:
            assert set() == reasons, post
            assert truth.mistagged or (truth.persona,) == leaves, post


def test_tags_are_closed_under_implications(tiny):
    """Posts have every implied tag, except forms that are older than their implication."""
    parents = tags.edges(tags.implications())
    open_posts = [
        post for post in tiny[0] if tags.closure(post.all_tags, parents) != set(post.all_tags)
    ]
    lacking = {
        name
        for post in open_posts
        for name in tags.closure(post.all_tags, parents) - set(post.all_tags)
    }

    assert lacking <= {"tsukishiro_ayame", "lenore_halewyn", "eclipse_ayame"}
    assert len(open_posts) < 0.03 * len(tiny[0])


def test_some_forms_predate_their_implication(full):
    """A few posts have the form without its base, as on the real site."""
    forms = [post for post in full[0] if "eclipse_ayame" in post.all_tags]
    old = [post for post in forms if "tsukishiro_ayame" not in post.all_tags]

    assert 0 < len(old) < 0.1 * len(forms)


def test_tags_that_follow_from_the_file(full):
    """Size tags agree with the sizes; no good post is `lowres`."""
    sizes = {"highres", "lowres", "absurdres", "wide_image", "tall_image"}
    for post in full[0]:
        assert tags.size_tags(post.width, post.height) == sizes & set(post.all_tags)
    assert {"damaged_tag"} == {
        reason
        for post in full[0]
        if "lowres" in post.all_tags
        for reason in full[1][post.post_id].reasons & {"damaged_tag"}
    }


def test_white_background_comes_with_and_without_simple_background(full):
    """Between 30 % and 80 % of the posts with `white_background` have `simple_background`."""
    white = [post.all_tags for post in full[0] if "white_background" in post.all_tags]
    simple = sum("simple_background" in names for names in white)

    assert 0.3 * len(white) < simple < 0.8 * len(white)


def test_ids_and_times_ascend_with_both_offsets(tiny):
    """Ids grow with time, and both offsets of Eastern time occur."""
    ids = [post.post_id for post in tiny[0]]
    times = [post.created_ms for post in tiny[0]]

    assert ids == sorted(set(ids))
    assert times == sorted(times)
    assert {"-04:00", "-05:00"} == {clock.eastern(time)[-6:] for time in times}


@pytest.mark.parametrize(
    ("expected", "ms"),
    [
        ("2026-03-08T01:59:59.999-05:00", 1_772_953_199_999),
        ("2026-03-08T03:00:00.000-04:00", 1_772_953_200_000),
        ("2026-11-01T01:59:59.999-04:00", 1_793_512_799_999),
        ("2026-11-01T01:00:00.000-05:00", 1_793_512_800_000),
    ],
)
def test_daylight_saving_changes_at_the_right_moment(expected, ms):
    """Summer time begins and ends as in the United States."""
    assert expected == clock.eastern(ms)
    assert ms == clock.from_eastern(expected)


def test_parents_and_children_agree(full):
    """The parent of a child lists the child and has a lower id."""
    by_id = {post.post_id: post for post in full[0]}
    children = [post for post in full[0] if post.parent_id is not None]

    assert len(children) > 20
    for child in children:
        assert child.post_id in by_id[child.parent_id].children
        assert child.parent_id < child.post_id


def test_duplicates_repeat_earlier_posts(full):
    """Each kind of duplicate occurs, is newer than its original, and differs by its kind."""
    by_id = {post.post_id: post for post in full[0]}
    kinds = Counter()
    for truth in full[1].values():
        if truth.duplicate_of is not None:
            kinds[truth.duplicate] += 1
            here, there = by_id[truth.post_id].recipe, by_id[truth.duplicate_of].recipe
            assert truth.duplicate_of < truth.post_id
            assert (here == there) is (truth.duplicate == "exact")
            assert here.seed == there.seed

    assert {"exact", "pixel", "near", "family"} == set(kinds)


def test_one_persona_stands_on_checkers(full):
    """More than 85 % of the backgrounds of one persona are checkered: the planted shortcut."""
    grounds = Counter(t.ground for t in full[1].values() if t.persona == CHECKERED)
    others = Counter(t.ground for t in full[1].values() if t.persona != CHECKERED)

    assert grounds["checkered"] > 0.85 * grounds.total()
    assert others["checkered"] < 0.25 * others.total()


def test_mistagged_posts_are_few_and_known(full):
    """0.5 to 1.5 % of the posts have wrong tags, of each of three kinds."""
    kinds = Counter(truth.mistagged for truth in full[1].values())
    kinds.pop(None)

    assert {"wrong_persona", "wrongly_refused", "wrongly_kept"} == set(kinds)
    assert 0.005 * len(full[0]) < kinds.total() < 0.015 * len(full[0])


def test_recipes_use_what_the_drawing_offers(full):
    """Recipes use every background, style, composition and edit of the drawing, and no other."""
    recipes = [post.recipe for post in full[0]]

    assert (GROUNDS, STYLES) == (drafts.GROUNDS, drafts.STYLES)
    assert set(GROUNDS) == {recipe.ground for recipe in recipes}
    assert set(STYLES) == {recipe.style for recipe in recipes}
    assert set(KINDS) == {recipe.kind for recipe in recipes}
    assert set(EDITS) == {recipe.edit for recipe in recipes} - {None}


def test_no_tag_determines_the_family(full):
    """Every frequent tag occurs in every family."""
    families = {persona.family for persona in PERSONAE if persona.family != "minor"}
    seen = {}
    for post in full[0]:
        truth = full[1][post.post_id]
        if truth.family in families and not truth.reasons:
            for name in (*post.tags["general"], *post.tags["meta"], *post.tags["artist"]):
                seen.setdefault(name, Counter())[truth.family] += 1

    for name, counts in seen.items():
        if counts.total() > 400:
            assert families == set(counts), name


@pytest.fixture
def changeable(tiny):
    board = DemoBoard(
        tiny[0],
        shelf=Shelf("", key=""),
        workers=0,
        truths=tiny[1],
        implications=tags.implications(),
        aliases=tags.aliases(),
    )
    yield board
    board.close()


def test_edits_follow_the_rules_of_saving(changeable):
    """An edit adds the tags that the new tags imply, and increases `updated_ms`."""
    before = changeable.posts[0]
    changeable.retag(before.post_id, add=["moss_oracle_(cosplay)", "4koma"], rating="q")
    after = changeable.post(before.post_id)

    assert {"cosplay", "moss_oracle", "comic"} <= set(after.all_tags)
    assert "q" == after.rating
    assert after.updated_ms > before.updated_ms
    assert 1 == changeable.version


def test_returns_the_truth_of_a_post(changeable):
    """`truth` returns the truth of a post; an unknown post is a KeyError."""
    first = changeable.posts[0].post_id

    assert first == changeable.truth(first).post_id
    with pytest.raises(KeyError):
        changeable.truth(1)


def test_a_board_without_cache_writes_nothing(tmp_path, monkeypatch):
    """With an empty cache folder, the board keeps its cache in memory only."""
    monkeypatch.chdir(tmp_path)
    booru.board(TINY).close()

    assert [] == list(tmp_path.iterdir())


def test_a_new_post_goes_to_the_head(changeable):
    """An inserted post is the newest; a lower or equal id fails an assertion."""
    last = changeable.posts[-1]
    changeable.insert(replace(last, post_id=last.post_id + 1))

    assert last.post_id + 1 == changeable.posts[-1].post_id
    with pytest.raises(AssertionError):
        changeable.insert(last)
