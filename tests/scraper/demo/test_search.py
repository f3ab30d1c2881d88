"""Tests the search language: parsing, number of terms, matching posts."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.demo.facts.record import DemoPost, FileFacts, FileRecipe
from scraper.demo.search import language, ranges
from scraper.demo.search.language import SearchError, cost, parse, validate
from scraper.demo.search.match import PostIndex
from scraper.demo.search.ranges import BadValue

BLANK = DemoPost(
    post_id=1,
    created_ms=1_700_000_000_000,
    updated_ms=1_700_000_000_000,
    uploader_id=1,
    up_score=0,
    down_score=0,
    score=0,
    fav_count=0,
    source="",
    rating="g",
    width=100,
    height=100,
    file_ext="jpg",
    duration=None,
    tags={"general": (), "character": (), "copyright": (), "artist": (), "meta": ()},
    recipe=FileRecipe(),
)


def post(post_id, text, **more):
    names = tuple(sorted(text.split()))
    tags = BLANK.tags | {"general": names}
    return replace(BLANK, post_id=post_id, tags=tags, all_tags=names, **more)


POSTS = (
    post(1, "a b", score=5),
    post(2, "a c", score=50, rating="s", flags=frozenset({"deleted"})),
    post(3, "b c d", score=7, width=1600, flags=frozenset({"banned"})),
    post(5, "x_(y) ab", score=1, parent_id=1, file_ext="png"),
    post(8, "", score=-3, duration=2.5, file_ext="mp4", pixiv_id=77),
)


def ids(text, aliases=None):
    index = PostIndex(POSTS, {8: FileFacts("0" * 32, 3_000, "1" * 32)}.get)
    return [match.post_id for match in index.select(parse(text, aliases))]


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ([8, 5, 3, 2, 1], ""),
        ([2, 1], "a"),
        ([1], "a b"),
        ([1], "a and b"),
        ([3, 2, 1], "a or b"),
        ([3, 2, 1], "~a ~b"),
        ([3, 2], "~a ~b c"),
        ([8, 5, 2], "-b"),
        ([8, 5], "-(a or b)"),
        ([3, 2], "(a or b) c"),
        ([3, 2], "c (a or (b d))"),
        ([5], "x_(y)"),
        ([5], "(x_(y))"),
        ([5, 1], "(x_(y) or (a b))"),
        ([5, 2, 1], "a*"),
        ([5], "x_*"),
        ([2, 1], "A"),
        ([], "unknown"),
        ([], "nonsense:5"),
        ([], "(a"),
        ([], "a)"),
        ([], "a or"),
        ([], "-"),
        ([2], "status:deleted"),
        ([8, 5, 3, 1], "status:active"),
        ([8, 5, 1], "status:active -status:banned"),
        ([8, 5, 3, 1], "is:general"),
        ([2], "rating:s"),
        ([8, 5, 3, 2, 1], "rating:g,sensitive"),
        ([8], "id:>5"),
        ([8, 5], "id:>=5"),
        ([5, 3], "id:3..5"),
        ([3], "id:3...5"),
        ([5, 3, 1], "id:1,3..5"),
        ([8, 5, 3], "id:3.."),
        ([3, 2, 1], "id:..3"),
        ([], "id:abc"),
        ([], "md5:zz"),
        ([3, 1], "score:5..10"),
        ([3], "width:1600"),
        ([5, 3, 2, 1], "duration:none"),
        ([8], "duration:any"),
        ([8], "pixiv:any"),
        ([5, 1], "parent:1"),
        ([8, 3, 2, 1], "parent:none"),
        ([8, 5], "filetype:png,mp4"),
        ([8], "filesize:2k..4k"),
        ([8], "md5:" + "0" * 32),
        ([3], "tagcount:3"),
        ([1, 2, 3, 5, 8], "order:id"),
        ([2, 3, 1, 5, 8], "order:score"),
        ([8, 5, 1, 3, 2], "order:score_asc"),
        ([8, 5, 3, 2, 1], "order:date"),
        ([5, 1, 3], "order:custom id:5,1,3"),
        ([8, 5, 3, 2, 1], 'source:""'),
    ],
)
def test_matches_what_the_site_matches(expected, text):
    """Operators, wildcards, ranges and metatags select the posts that Danbooru selects."""
    assert expected == ids(text)


def test_resolves_aliases_before_searching():
    """A search for an old tag name returns the posts of the new name."""
    assert [2, 1] == ids("old", {"old": "a"})


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        (0, ""),
        (2, "a b"),
        (1, "a a"),
        (3, "a b c"),
        (3, "a -b -c"),
        (2, "a b rating:g status:active -status:banned id:>5 duration:none"),
        (3, "a b order:score"),
        (3, "a b upvotes:>1"),
        (2, "a b upvote:x"),
        (2, "a* b"),
        (2, "(a or b)"),
        (1, "chartags:1"),
        (0, "is:sfw score:>10 width:>5"),
    ],
)
def test_counts_terms_as_the_site_does(terms, text):
    """Tags, wildcards and most metatags count as a term; attribute filters do not."""
    assert terms == cost(parse(text))


def test_an_alias_and_its_target_count_once():
    """Aliases are replaced before terms are counted."""
    assert 1 == cost(parse("old new", {"old": "new"}))


def test_refuses_a_third_term():
    """A third counted term is an error with Danbooru's message."""
    with pytest.raises(
        SearchError, match="You cannot search for more than 2 tags at a time"
    ) as refusal:
        validate(parse("a b c"), limit=2)

    assert "PostQuery::TagLimitError" == refusal.value.error


@pytest.mark.parametrize("text", ["order:score order:id", "-order:score", "a or order:score"])
def test_refuses_contradicting_orders(text):
    """Two orders, a negated order and an order in an alternative are errors."""
    with pytest.raises(SearchError) as refusal:
        validate(parse(text), limit=None)

    assert "PostQuery::Error" == refusal.value.error


@given(st.text(alphabet="ab()-~ :*\"'oridn<>.5", max_size=30))
def test_no_text_breaks_the_parser(text):
    """Every text gives a tree and posts, without an exception."""
    tree = language.parse(text)

    assert 0 <= cost(tree)
    assert set(ids(text)) <= {1, 2, 3, 5, 8}


@given(st.lists(st.sampled_from(["a", "b", "-c", "rating:g"]), min_size=1, max_size=4))
def test_the_order_of_terms_does_not_matter(terms):
    """A conjunction selects the same posts in every order of its terms."""
    assert ids(" ".join(terms)) == ids(" ".join(reversed(terms)))


def test_reads_ages_dates_and_sizes():
    """`age:` is relative to the newest post, `date:` is a day, a single size matches within 5 %."""
    week = ranges.age("<1w", 10 * 86_400_000.0)

    assert [False, True] == [week(0.0), week(9 * 86_400_000.0)]
    assert ranges.date("2026-01-02")(1_767_380_000_000)
    assert ranges.within("1m", ranges.size, around=0.05)(1_040_000)
    with pytest.raises(BadValue):
        ranges.within("1x", ranges.size)
