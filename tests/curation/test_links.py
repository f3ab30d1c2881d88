"""Tests the rules that link posts of the same image, and the choice of the post to keep."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation import links


def column(values: list[Any], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


def ends(pairs: np.ndarray) -> list[tuple[int, int]]:
    return [(first, second) for first, second in pairs.tolist()]


def families(parents: dict[int, int | None]) -> list[tuple[int, int]]:
    """Returns the links of posts with these parents."""
    linked = links.family_links(np.array([*parents]), column([*parents.values()], pa.int64()))
    return ends(linked)


def test_same_key_links_to_the_smallest_id() -> None:
    """Posts with one key all link to the first of them; a key of None links nothing."""
    keys = column(["a", None, "a", None, "a"], pa.string())

    assert [(3, 5), (3, 9)] == ends(links.same_key(np.array([3, 4, 5, 6, 9]), keys))


def test_families_link_children_and_siblings() -> None:
    """A child links to its parent and its siblings, whether or not the parent is present."""
    parents = {1: None, 2: 1, 3: 2, 8: 70, 9: 70, 10: 71, 11: 11}

    assert [(1, 2), (2, 3), (8, 9)] == families(parents)


def test_siblings_stay_linked_when_their_parent_comes() -> None:
    """A parent listed after its children adds links to them and removes none."""
    children = dict.fromkeys((2, 5, 7), 9)
    between = [(2, 5), (2, 7)]

    assert between == families(children)
    assert {*between, (2, 9), (5, 9), (7, 9)} == set(families({**children, 9: None}))


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


def sources(posts: list[int], most: int) -> list[tuple[int, int]]:
    """Returns the links of posts of one URL, with spaces around that of the last."""
    urls = ["https://example.com/a"] * (len(posts) - 1) + [" https://example.com/a "]
    return ends(links.source_links(np.array(posts), column(urls), most))


def test_sources_link_their_first_posts() -> None:
    """A URL links at most the allowed number of posts, smallest ids first; 0 and 1 link none."""
    posts = [3, 5, 7]

    assert [(3, 5), (3, 7)] == sources(posts, 3)
    assert [(3, 5)] == sources(posts, 2)
    assert [] == sources(posts, 1)
    assert [] == sources(posts, 0)


def test_sources_that_name_no_image_link_nothing() -> None:
    """Posts of one text, one site or no source at all stay unlinked."""
    texts = ["mine", "mine", "https://example.com/", "https://example.com/", "", "", None, None]

    assert [] == ends(links.source_links(np.arange(8), column(texts), 8))


def test_one_more_post_of_a_source_takes_no_link_away() -> None:
    """The ninth post of a URL stays unlinked, and the first eight keep their links."""
    posts = [*range(1, 10)]
    first = sources(posts[:8], 8)

    assert [(1, number) for number in range(2, 9)] == first
    assert first == sources(posts, 8)


def test_survivor_has_no_parent_then_size_score_age() -> None:
    """Posts without a parent come first, then more pixels, a higher score, the smaller id."""
    # Post id, parent, pixels, score.
    child, small, low = (1, 7, 99, 9), (2, None, 10, 9), (3, None, 20, 0)
    young, best = (9, None, 20, 5), (8, None, 20, 5)

    assert 8 == survivor(child, small, low, young, best)
    assert 3 == survivor(child, small, low)
    assert 2 == survivor(child, small)
    assert 1 == survivor(child)


def survivor(*posts: tuple[int, int | None, int, int]) -> int:
    """Returns the post that is kept of a group, beside another group."""
    names = ("post_id", "parent_id", "pixels", "score")
    columns = zip(*posts, (4, None, 50, 9), strict=True)
    table = pa.table(
        {name: column([*c], pa.int64()) for name, c in zip(names, columns, strict=True)}
    )
    kept = set(links.survivors(np.array([1] * len(posts) + [4]), table).tolist())
    assert 4 in kept
    (single,) = kept - {4}
    return int(single)
