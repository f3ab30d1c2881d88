"""Tests the rules that link posts of the same image, and the choice of the post to keep."""

import pytest

from curation import links
from curation.links import DuplicateCandidate, Link


def post(post_id: int, **known) -> DuplicateCandidate:
    silent = {"md5": None, "pixel_hash": None, "parent_id": None, "source": "", "score": 0}
    return DuplicateCandidate(
        **{"post_id": post_id, "sha256": str(post_id), "pixels": 0} | silent | known
    )


def ends(linked: list[Link]) -> list[tuple[int, int]]:
    return [(link.post_a, link.post_b) for link in linked]


def test_same_key_links_to_the_smallest_id() -> None:
    """Posts with one key all link to the first of them; a key of None links nothing."""
    posts = [post(9, md5="a"), post(3, md5="a"), post(5, md5="a"), post(4), post(6)]

    assert [(3, 5), (3, 9)] == ends(links.same_key(posts, "exact", lambda each: each.md5))


def test_families_link_children_and_siblings() -> None:
    """A child links to its parent and its siblings, whether or not the parent is present."""
    posts = [post(1), post(2, parent_id=1), post(3, parent_id=2), post(8, parent_id=70)]
    posts += [post(9, parent_id=70), post(10, parent_id=71), post(11, parent_id=11)]

    assert [(1, 2), (2, 3), (8, 9)] == ends(links.family_links(posts))


def test_siblings_stay_linked_when_their_parent_comes() -> None:
    """A parent listed after its children adds links to them and removes none."""
    children = [post(number, parent_id=9) for number in (2, 5, 7)]
    between = [(2, 5), (2, 7)]

    assert between == ends(links.family_links(children))
    assert {*between, (2, 9), (5, 9), (7, 9)} == set(ends(links.family_links([*children, post(9)])))


@pytest.mark.parametrize(
    ("source", "is_specific"),
    [
        ("https://example.com/works/1", True),
        (" https://example.com/?id=1 ", True),
        ("https://example.com/", False),
        ("http://[broken", False),
        ("my own drawing", False),
        ("file:///home/me/1.png", False),
        ("", False),
    ],
)
def test_sources_identify_images(source, is_specific) -> None:
    """Only a web address with a path or a query identifies an image."""
    assert (source.strip() if is_specific else None) == links.image_url(source)


def test_sources_link_their_first_posts() -> None:
    """A URL links at most the allowed number of posts, smallest ids first; 0 and 1 link none."""
    posts = [post(number, source="https://example.com/a") for number in (7, 3, 5)]

    assert [(3, 5), (3, 7)] == ends(links.source_links(posts, 3))
    assert [(3, 5)] == ends(links.source_links(posts, 2))
    assert [] == links.source_links(posts, 1)
    assert [] == links.source_links(posts, 0)


def test_one_more_post_of_a_source_takes_no_link_away() -> None:
    """The ninth post of a URL stays unlinked, and the first eight keep their links."""
    posts = [post(number, source="https://example.com/a") for number in range(1, 10)]
    first = ends(links.source_links(posts[:8], 8))

    assert [(1, number) for number in range(2, 9)] == first
    assert first == ends(links.source_links(posts, 8))


def test_survivor_has_no_parent_then_size_score_age() -> None:
    """Posts without a parent come first, then more pixels, a higher score, the smaller id."""
    child = post(1, parent_id=7, pixels=99, score=9)
    small, low, young = post(2, pixels=10, score=9), post(3, pixels=20), post(9, pixels=20, score=5)
    best = post(8, pixels=20, score=5)

    assert 8 == links.survivor([child, small, low, young, best])
    assert 3 == links.survivor([child, small, low])
    assert 2 == links.survivor([child, small])
    assert 1 == links.survivor([child])
