"""
The rules that link two posts, and the choice of the post to keep of those that show one image.

The rules read what the board lists; duplicates.py adds the links that need pixels. Every link keeps
two posts in one split. Only the kinds of `JOINING` make them one image, of which one post is kept.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

REASONS = {
    "exact": "exact_duplicate",
    "pixel_hash": "pixel_duplicate",
    "near": "near_duplicate",
    "family": "family_duplicate",
    "artwork": "same_artwork",
    "source": "same_source",
}
"""Kinds of links, strongest first, and the reason code of a post that is refused for each."""

JOINING = ("exact", "pixel_hash", "near", "family")
"""
Kinds of links whose two posts show one image.

`artwork` is added where a parameter says so. `source` is not among them: the page of a gallery is the
source of all its images.
"""


@dataclass(frozen=True, slots=True)
class DuplicateCandidate:
    """The facts of one post that decide on its links; None if the board lists none."""

    post_id: int
    sha256: str
    md5: str | None
    pixel_hash: str | None
    parent_id: int | None
    source: str
    score: int
    pixels: int
    """Width times height of the original file, as the board lists them."""


@dataclass(frozen=True, slots=True)
class Link:
    """Two posts that belong in one split, the smaller id first."""

    post_a: int
    post_b: int
    kind: str
    distance: int | None = None
    """Bits that differ between the 256-bit hashes, for `near` by hash alone."""
    difference: float | None = None
    """Of the pixels, 0..2, for `near` and `artwork`: see `curation.pixels`."""
    inliers: int | None = None
    """Keypoints that agree, for `artwork`, and `near` by keypoints."""
    mirrored: bool | None = None
    """Whether one image is mirrored, for `near` and `artwork`."""


def same_key(
    posts: Iterable[DuplicateCandidate], kind: str, key: Callable[[DuplicateCandidate], Any]
) -> list[Link]:
    """Links every post to the smallest id with the same key; a post with the key None to none."""
    holders: dict[Any, list[int]] = defaultdict(list)
    for post in posts:
        if key(post) is not None:
            holders[key(post)].append(post.post_id)
    return [
        Link(min(ids), other, kind)
        for ids in holders.values()
        for other in sorted(set(ids) - {min(ids)})
    ]


def family_links(posts: Sequence[DuplicateCandidate]) -> list[Link]:
    """
    Links a child to its parent, and to its siblings even if the parent is not among the posts.

    A parent that is listed later than its children therefore removes no link between them.
    """
    known = {post.post_id for post in posts}
    children = [post for post in posts if post.parent_id not in (None, post.post_id)]
    links = [
        Link(min(parent, post.post_id), max(parent, post.post_id), "family")
        for post in children
        if (parent := post.parent_id) in known and parent is not None
    ]
    return links + same_key(children, "family", lambda post: post.parent_id)


def source_links(posts: Sequence[DuplicateCandidate], most: int) -> list[Link]:
    """
    Links the first `most` posts, by id, of the same source URL; later posts stay unlinked.

    Images of one URL are the pages of a gallery or the images of one message: often variants of one
    drawing, so that they belong in one split. A post that is listed later removes no link
    between earlier posts.
    """
    holders: dict[str, list[DuplicateCandidate]] = defaultdict(list)
    for post in sorted(posts, key=lambda post: post.post_id):
        if url := image_url(post.source):
            holders[url].append(post)
    first = [post for holding in holders.values() for post in holding[:most]]
    return same_key(first, "source", lambda post: image_url(post.source))


def image_url(source: str) -> str | None:
    """Returns a source that can identify an image: a web address with a path or a query; else None."""
    try:
        parts = urlsplit(source.strip())
    except ValueError:  # an unclosed bracket, for example: people type anything into a source field
        return None
    is_specific = parts.scheme in ("http", "https") and (parts.path.strip("/") or parts.query)
    return source.strip() if is_specific else None


def survivor(posts: Iterable[DuplicateCandidate]) -> int:
    """Returns the post to keep: without a parent, then most pixels, highest score, smallest id."""
    return min(
        posts,
        key=lambda post: (post.parent_id is not None, -post.pixels, -post.score, post.post_id),
    ).post_id
