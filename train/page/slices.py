"""
Parts of the test images whose accuracy a reader may want alone: by background, label and post.

Takes the results and, where it exists, the catalog. Gives named masks over the test images, in the
order of `post_id`. A slice that holds all images, or fewer than `SMALLEST`, is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from train.page.catalog import Catalog, CatalogUnreadable
from train.page.results import Results

SMALLEST = 20  # test images; the accuracy of fewer has an interval of more than 20 points to a side
_MOST_YEARS = 8
_POSTS = """
    SELECT samples.post_id, posts.rating, year(posts.created_at_utc),
        EXISTS (
            FROM links JOIN samples AS other
                ON other.post_id = CASE samples.post_id WHEN post_a THEN post_b ELSE post_a END
            WHERE samples.post_id IN (post_a, post_b) AND other.split = 'train'
        )
    FROM samples JOIN posts USING (post_id)
    WHERE samples.split = 'test'
"""


@dataclass(frozen=True, slots=True)
class ImageSlice:
    """Test images that have `name` in common, as one value of `kind`."""

    kind: str
    name: str
    mask: Bool[np.ndarray, " image"]


@dataclass(frozen=True, slots=True)
class CatalogFacts:
    """What the catalog says of a test image's post."""

    rating: str
    year: int
    is_linked: bool
    """Whether a duplicate or another copy of the drawing is a training image."""


def read_posts(catalog: Catalog) -> dict[int, CatalogFacts]:
    """Returns the facts of each test image by its post; empty without a catalog."""
    try:
        rows = catalog.rows(_POSTS)
    except CatalogUnreadable:  # the funnel names the reason on the page
        return {}
    return {
        post: CatalogFacts(rating or "", year or 0, is_linked)
        for post, rating, year, is_linked in rows
    }


def slices(results: Results, posts: Mapping[int, CatalogFacts]) -> list[ImageSlice]:
    """Returns the slices of the test images; those of `posts` only if it covers every image."""
    labels = results.test_labels
    clusters = results.reference(results.seeds[0]).clusters
    alone = {leaf for cluster in clusters if len(cluster) == 1 for leaf in cluster}
    every = [
        *_two("background", "white", "other", results.white),
        *_two("label", "alone in its reference cluster", "with others", _among(labels, alone)),
        *_two(
            "label",
            "with another form among the labels",
            "with no other form",
            _among(labels, _forms(results)),
        ),
        *_of_posts(results, posts),
    ]
    images = len(labels)
    return [each for each in every if SMALLEST <= each.mask.sum() < images]


def _two(
    kind: str, inside: str, outside: str, mask: Bool[np.ndarray, " image"]
) -> list[ImageSlice]:
    return [ImageSlice(kind, inside, mask), ImageSlice(kind, outside, ~mask)]


def _among(labels: Int[np.ndarray, " image"], chosen: set[int]) -> Bool[np.ndarray, " image"]:
    return np.isin(labels, sorted(chosen))


def _forms(results: Results) -> set[int]:
    """Returns the leaves that share a base form with another leaf, or are the base of one."""
    base = [results.bases.get(label) or label for label in results.labels]
    return {leaf for leaf, name in enumerate(base) if base.count(name) > 1}


def _of_posts(results: Results, posts: Mapping[int, CatalogFacts]) -> list[ImageSlice]:
    ids = results.flat.seeds[results.seeds[0]].post_id.tolist()
    if not posts.keys() >= set(ids):
        return []
    facts = [posts[post] for post in ids]
    linked = np.array([fact.is_linked for fact in facts])
    ratings, years = (
        np.array([getattr(fact, name) for fact in facts]) for name in ("rating", "year")
    )
    known_years = np.unique(years)
    return [
        *_two("drawing", "with a copy among the training images", "without", linked),
        *(ImageSlice("rating", str(each), ratings == each) for each in np.unique(ratings)),
        *(
            ImageSlice("year of the post", str(each), years == each)
            for each in known_years
            if len(known_years) <= _MOST_YEARS
        ),
    ]
