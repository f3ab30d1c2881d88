"""
The rules that link two posts, and the choice of the post to keep of those that show one image.

The rules read what the board lists; duplicates.py adds the links that need pixels. Every link keeps
two posts in one split. Only the kinds of `JOINING` make them one image, of which one post is kept.
"""

from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ids = npt.NDArray[np.int64]

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


def same_key(posts: Ids, keys: pa.ChunkedArray) -> Ids:
    """
    Returns pairs `[pairs, 2]` of every post and the smallest id with the same key.

    Args:
        posts: Ids, ascending, `[posts]`.
        keys: The key of each post; a post whose key is null is in no pair.
    """
    codes = pc.dictionary_encode(keys).combine_chunks().indices
    rows = np.flatnonzero(codes.is_valid().to_numpy(zero_copy_only=False))
    _, first, inverse = np.unique(
        codes.drop_null().to_numpy(), return_index=True, return_inverse=True
    )
    smallest = rows[first[inverse]]
    is_later = smallest < rows
    return np.stack([posts[smallest[is_later]], posts[rows[is_later]]], axis=1)


def family_links(posts: Ids, parents: pa.ChunkedArray) -> Ids:
    """
    Returns pairs of a child and its parent, and of siblings even if the parent is not among the posts.

    A parent that is listed later than its children therefore removes no link between them.

    Args:
        posts: Ids, ascending, `[posts]`.
        parents: Id of the parent of each post, or null.
    """
    is_child = pc.fill_null(pc.not_equal(parents, pa.array(posts)), fill_value=False)
    children, of_children = posts[is_child.to_numpy()], parents.filter(is_child)
    to_parent = np.sort(np.stack([children, of_children.to_numpy()], axis=1), axis=1)
    to_parent = to_parent[np.isin(of_children.to_numpy(), posts)]
    return np.concatenate([to_parent, same_key(children, of_children)])


def source_links(posts: Ids, sources: pa.ChunkedArray, most: int) -> Ids:
    """
    Returns pairs of the first `most` posts, by id, of the same source URL; later posts stay unlinked.

    Images of one URL are the pages of a gallery or the images of one message: often variants of one
    drawing, so that they belong in one split. A post that is listed later removes no link
    between earlier posts.

    Args:
        posts: Ids, ascending, `[posts]`.
        sources: Source of each post, or null.
        most: Number of posts of a URL.
    """
    # Most sources are of one post, and no two sources of one URL differ by more than white space.
    encoded = pc.dictionary_encode(pc.utf8_trim_whitespace(sources)).combine_chunks()
    codes = encoded.indices.fill_null(-1).to_numpy()
    seen: Counter[int] = Counter()
    repeated = np.flatnonzero(np.bincount(codes + 1)[1:] > 1)
    url_of = {code: image_url(encoded.dictionary[code].as_py()) for code in repeated.tolist()}
    rows = np.flatnonzero(np.isin(codes, [code for code, url in url_of.items() if url]))
    first = []
    for row, code in zip(rows.tolist(), codes[rows].tolist(), strict=True):
        seen[code] += 1
        if seen[code] <= most:
            first.append(row)
    return same_key(
        posts[first], pa.chunked_array([encoded.indices.take(pa.array(first, pa.int64()))])
    )


def image_url(source: str) -> str | None:
    """Returns a source that can identify an image: a web address with a path or a query; else None."""
    try:
        parts = urlsplit(source.strip())
    except ValueError:  # an unclosed bracket, for example: people type anything into a source field
        return None
    is_specific = parts.scheme in ("http", "https") and (parts.path.strip("/") or parts.query)
    return source.strip() if is_specific else None


def survivors(groups: Ids, posts: pa.Table) -> Ids:
    """
    Returns the ids to keep, ascending: of each group the post without a parent, then with most pixels,
    the highest score, the smallest id.

    Args:
        groups: Group of each post, `[posts]`.
        posts: `post_id`, `parent_id`, `pixels` and `score`, as the board lists them.
    """
    post_ids = posts["post_id"].to_numpy()
    has_parent = posts["parent_id"].is_valid().to_numpy()
    pixels, score = posts["pixels"].to_numpy(), posts["score"].to_numpy().astype(np.int64)
    order = np.lexsort([post_ids, -score, -pixels, has_parent, groups])
    is_first = np.diff(groups[order], prepend=-1) != 0
    return np.sort(post_ids[order[is_first]])
