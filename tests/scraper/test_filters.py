"""Tests each tag rule: one post that breaks it, and the boundary value that passes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personae.errors import BadParams
from scraper import filters
from scraper.filters import RULES, PostFacts, RuleLimits, refusals, white_background_tag
from scraper.params.decide import Params

GOOD = PostFacts(
    post_id=7,
    tags=frozenset({"1girl", "solo", "smile", "rin", "highres"}),
    leaves=("rin",),
    bases=("rin",),
    width=900,
    height=1200,
)

TAGS_BY_REASON = {
    "animated": filters.MOVING,
    "comic": filters.COMIC,
    "cosplay": filters.COSPLAY | {"miku_(cosplay)"},
    "damaged_tag": filters.DAMAGED,
    "extreme_shape": filters.EXTREME,
    "machine_made": filters.MACHINE_MADE,
    "monochrome_tag": filters.MONOCHROME,
    "not_a_drawing": filters.NOT_A_DRAWING,
    "not_solo": {"solo_focus"},
    "several_views": filters.SEVERAL_VIEWS,
    "unfinished_tags": filters.UNFINISHED,
    "person_count": {*filters.SEVERAL_PEOPLE, "1boy", "1other"},
}
# `cosplay_photo` is both a costume and a photograph.
ALSO = {"cosplay_photo": ["cosplay", "not_a_drawing"]}

CHANGED_BY_REASON = {
    "hidden": {"is_hidden": True},
    "deleted": {"is_deleted": True},
    "banned": {"is_banned": True},
    "pending": {"is_pending": True},
    "flagged": {"is_flagged": True},
    "rating": {"rating": "s"},
    "file_type": {"file_ext": "gif"},
    "no_persona": {"leaves": (), "bases": ()},
    "two_personas": {"leaves": ("rin", "miku"), "bases": ()},
    "two_bases": {"bases": ("miku", "rin")},
}


LIMITS = Params().limits


def reasons(facts: PostFacts, limits: RuleLimits = LIMITS, **options):
    return [decision.reason for decision in refusals(facts, limits, **options)]


def test_keeps_a_good_post():
    """A post that breaks no rule gets no refusal."""
    assert [] == refusals(GOOD, LIMITS)


def test_every_reason_is_asserted_here():
    """Every rule has a post in this file that breaks it."""
    assert set(RULES) == {*TAGS_BY_REASON, *CHANGED_BY_REASON, "small", "refused_tag", "excluded"}


@pytest.mark.parametrize(
    ("reason", "tag"),
    [(reason, tag) for reason, tags in TAGS_BY_REASON.items() for tag in sorted(tags)],
)
def test_tag_trips_its_rule(reason, tag):
    """One added tag on a good post gives exactly the reason of its rule."""
    facts = replace(GOOD, tags=GOOD.tags | {tag})

    assert ALSO.get(tag, [reason]) == reasons(facts)


@pytest.mark.parametrize(("reason", "changed"), CHANGED_BY_REASON.items())
def test_fact_trips_its_rule(reason, changed):
    """One changed fact on a good post gives exactly the reason of its rule."""
    assert [reason] == reasons(replace(GOOD, **changed))


def test_absent_solo_is_not_solo():
    """A post without the tag `solo` is refused as `not_solo`."""
    assert ["not_solo"] == reasons(replace(GOOD, tags=GOOD.tags - {"solo"}))


@pytest.mark.parametrize(
    ("people", "tags"),
    [(0, ()), (2, ("1girl", "1boy")), (2, ("multiple_girls",)), (8, ("2boys", "6+girls"))],
)
def test_counts_people_by_their_tags(people, tags):
    """The number of people is measured and compared with 1."""
    (decision,) = refusals(replace(GOOD, tags=GOOD.tags - {"1girl"} | {*tags}), LIMITS)

    assert ("person_count", people, 1) == (decision.reason, decision.measured, decision.threshold)


@pytest.mark.parametrize("person", sorted(filters.ONE_PERSON))
def test_one_person_of_any_kind_is_one(person):
    """One girl, one boy or one other person is accepted."""
    assert [] == reasons(replace(GOOD, tags=GOOD.tags - {"1girl"} | {person}))


@pytest.mark.parametrize(
    ("facts", "numbers"),
    [
        (replace(GOOD, leaves=(), bases=()), (0, 1)),
        (replace(GOOD, leaves=("a", "b", "c"), bases=()), (3, 1)),
        (replace(GOOD, bases=("a", "b")), (2, 1)),
        (replace(GOOD, duration_seconds=1.5), (1.5, 0)),
        (replace(GOOD, width=255, height=400), (255, 256)),
        (replace(GOOD, height=2701), (2701 / 900, 3.0)),
    ],
)
def test_records_the_numbers_compared(facts, numbers):
    """A rule that compares numbers records both in its decision."""
    decision = refusals(facts, LIMITS)[-1]

    assert numbers == (decision.measured, decision.threshold)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (256, 256, []),
        (255, 256, ["small"]),
        (256, 255, ["small"]),
        (900, 2700, []),
        (2701, 900, ["extreme_shape"]),
        (900, 2701, ["extreme_shape"]),
        (0, 0, ["small"]),
        (0, 400, ["small", "extreme_shape"]),
    ],
)
def test_boundaries_of_size_and_shape(width, height, expected):
    """Values equal to `min_side` and `max_aspect` are kept; one pixel beyond is refused."""
    assert expected == reasons(replace(GOOD, width=width, height=height))


def test_still_image_of_no_duration_and_animation_of_zero_seconds_differ():
    """A post with a duration, even of 0 seconds, is refused as animated."""
    assert ["animated"] == reasons(replace(GOOD, duration_seconds=0.0))


def test_limits_decide_ratings_and_types():
    """The parameters decide which ratings and file types are accepted."""
    sensitive = replace(GOOD, rating="s", file_ext="avif")
    limits = Params(ratings=("g", "s"), file_types=("avif",)).limits

    assert ["rating", "file_type"] == reasons(sensitive)
    assert [] == reasons(sensitive, limits)


def test_named_tags_refuse():
    """A tag of `refuse_tags` refuses the post with its own reason."""
    facts = replace(GOOD, tags=GOOD.tags | {"chibi"})

    assert [] == reasons(facts)
    assert ["refused_tag"] == reasons(facts, Params(refuse_tags=("chibi",)).limits)


@pytest.mark.parametrize("items", [("7",), ("5,7", "9"), ("ids.txt",), ("5", "ids.txt")])
def test_excluded_ids_refuse(items, tmp_path):
    """A post is excluded by its id, given as ids or in a file with comments."""
    path = tmp_path / "ids.txt"
    path.write_text("\ufeff# bad scans\n3, 4\n7 # a duplicate\n\n", encoding="utf-8")
    items = tuple(str(path) if item == path.name else item for item in items)
    facts = replace(GOOD, post_id=7)

    assert [] == reasons(facts)
    assert ["excluded"] == reasons(facts, Params(exclude_posts=items).limits)
    assert [] == reasons(replace(GOOD, post_id=8), Params(exclude_posts=items).limits)


@pytest.mark.parametrize(
    ("item", "text"), [("nowhere.txt", None), ("ids.txt", "7 abc"), ("-7", "")]
)
def test_wrong_exclusions_are_named(item, text, tmp_path):
    """An item that is neither ids nor a file of ids is a bad parameter that names it."""
    path = tmp_path / item
    if text:
        path.write_text(text, encoding="utf-8")

    with pytest.raises(BadParams, match=item if text is None else "abc|-7"):
        Params(exclude_posts=(str(path) if item.endswith("txt") else item,)).limits  # noqa: B018  # read there


def test_similar_tags_are_harmless():
    """Tags that only resemble refused tags, such as `manga_(object)`, refuse nothing."""
    harmless = {"manga_(object)", "limited_palette", "cosplayer", "reflection", "simple_background"}

    assert [] == reasons(replace(GOOD, tags=GOOD.tags | harmless))


def test_labelled_post_needs_no_tags():
    """A post with a given label needs no tags, but the other rules apply."""
    labelled = replace(GOOD, tags=frozenset(), is_labelled=True)

    assert [] == reasons(labelled)
    assert ["comic", "small"] == reasons(
        replace(labelled, tags=frozenset({"comic"}), width=9, height=9)
    )


def test_all_rules_are_evaluated():
    """A post that breaks several rules gets a decision for each, in the order of the rules."""
    facts = PostFacts(
        post_id=8, tags=frozenset({"comic", "monochrome", "2girls"}), is_deleted=True, rating="e"
    )

    expected = ["deleted", "rating", "not_solo", "person_count", "no_persona", "comic"]
    assert [*expected, "monochrome_tag", "small"] == reasons(facts)
    assert {(8, "decide", False)} == {
        (row.post_id, row.stage, row.kept) for row in refusals(facts, LIMITS)
    }


def test_skipped_rule_is_silent():
    """A skipped rule records nothing; the other rules still do."""
    facts = replace(GOOD, is_flagged=True, is_pending=True)

    assert ["pending", "flagged"] == reasons(facts)
    assert ["pending"] == reasons(facts, skip={"flagged"})


def test_function_name_is_reason_code():
    """The reason code in the table is the name of the rule's function."""
    assert list(RULES) == [rule.__name__ for rule in RULES.values()]
    assert all(getattr(filters, reason) is rule for reason, rule in RULES.items())


ANY_TAGS = st.sets(
    st.sampled_from(sorted(GOOD.tags.union(*TAGS_BY_REASON.values()) | {"white_background"}))
)


@given(tags=ANY_TAGS, shuffler=st.randoms(use_true_random=False))
def test_order_of_tags_never_matters(tags, shuffler):
    """The order of the tags does not change the decisions."""
    ordered, shuffled = sorted(tags), sorted(tags)
    shuffler.shuffle(shuffled)

    expected, actual = (
        refusals(replace(GOOD, tags=frozenset(names)), LIMITS) for names in (ordered, shuffled)
    )
    assert expected == actual


@given(tags=ANY_TAGS, more=ANY_TAGS)
def test_more_tags_never_excuse(tags, more):
    """Adding refused tags never removes the refusal of another rule."""
    harmless = {"solo", "1girl", "1boy", "1other"}
    before = reasons(replace(GOOD, tags=GOOD.tags | tags))
    after = reasons(replace(GOOD, tags=GOOD.tags | tags | (more - harmless)))

    assert set() == set(before) - set(after)


@pytest.mark.parametrize(
    ("expected", "tags"),
    [
        (True, {"white_background"}),
        (True, {"white_background", "simple_background"}),
        (False, {"simple_background"}),
        (False, {"white_background", "grey_background"}),
        (False, {"white_background", "two-tone_background"}),
        (False, {"white_background", "transparent_background"}),
        (False, {"white_background", "white_border"}),
        (False, {"white_background", "border"}),
        (False, {"white_background", "outside_border"}),
        (False, set()),
    ],
)
def test_white_background_needs_the_tag_and_no_other_ground(expected, tags):
    """The tag alone gives True; with another background or a border the result is False."""
    assert expected is white_background_tag(frozenset(tags))
