"""The pairs of posts that belong in one split: the links of stage `duplicates`, the groups of a source."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation import rows
from curation.links import same_key
from personae import tables

Ids = npt.NDArray[np.int64]

_BY_PIXELS = ("near", "artwork")
"""Kinds of links whose images were compared two by two: the first post of each file with others."""


def of_split(data_dir: Path, posts: Ids, kept: Ids) -> Ids:
    """
    Returns the pairs of posts that must not be in different splits, `[pairs, 2]`.

    Args:
        data_dir: Folder of the tables.
        posts: Ids, ascending, each once.
        kept: Posts that keep their split, ascending. They are assigned before posts with smaller ids,
            and so need links of their own; see `_from_kept`.

    Raises:
        MissingInput, MissingColumn, BadTable: A table is absent, or lacks a column.
    """
    path = data_dir / "duplicates" / "links.parquet"
    links, given = read(path), _of_source(data_dir, posts)
    pairs = [links, given]
    if len(kept):
        schema = pa.schema({"link": pa.string()})
        kinds = tables.read_complete(path, schema, stage="duplicates")["link"]
        exact = links[pc.equal(kinds, "exact").to_numpy()]
        pairs.append(_from_kept(given, given, kept))
        for kind in pc.unique(kinds):
            of_kind = links[pc.equal(kinds, kind).to_numpy()]
            stars = exact if kind.as_py() in _BY_PIXELS else of_kind
            pairs.append(_from_kept(of_kind, stars, kept))
    return np.concatenate(pairs)


def read(path: Path) -> Ids:
    """Returns the pairs of a table of stage `duplicates`, `[pairs, 2]`; raises as `tables.read` does."""
    pairs = tables.read(path, ["post_a", "post_b"], stage="duplicates")
    return np.stack([pairs["post_a"].to_numpy(), pairs["post_b"].to_numpy()], axis=1)


def _of_source(data_dir: Path, posts: Ids) -> Ids:
    """Returns pairs that join the posts of each group of the source to its smallest id."""
    path = data_dir / "listing" / "posts.parquet"
    of_source = rows.of_posts(path, ["given_group"], posts, stage="listing")
    return same_key(posts, of_source["given_group"])


def _from_kept(pairs: Ids, stars: Ids, kept: Ids) -> Ids:
    """
    Returns the pairs of posts that stand for kept posts, with the kept posts in their place.

    Posts of one file, group or source are linked to the smallest id among them, which stands for them.
    That joins them where it is assigned first. Where it keeps no split, the first of them that keeps
    one is assigned before it.

    Args:
        pairs: Pairs of ids, `[pairs, 2]`.
        stars: The smallest id of each key, and another post of that key, `[rest, 2]`.
        kept: Posts that keep their split, ascending.
    """
    is_kept = rows.are_among(stars, kept)
    stars = stars[~is_kept[:, 0] & is_kept[:, 1]]
    stars = stars[np.lexsort((stars[:, 1], stars[:, 0]))]
    centres, first = np.unique(stars[:, 0], return_index=True)
    is_centre = rows.are_among(pairs, centres)
    replaced = pairs.copy()
    replaced[is_centre] = stars[first, 1][np.searchsorted(centres, pairs[is_centre])]
    return replaced[is_centre.any(axis=1)]
