"""Tests the pairs of one split: they join all posts that must not be parted, kept posts too."""

import random
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import pairs
from curation.assignment import KeptSplits, assign, assign_folds
from curation.links import same_key
from personae.errors import BadTable
from personae.selection import SPLITS
from tests.curation.split_fixture import write


class Shown(NamedTuple):
    """What joins a post to others."""

    file: int
    source: int | None = None
    scene: int | None = None


Posts = Mapping[int, Shown]


def tables(data_dir: Path, posts: Posts, alike: Sequence[tuple[int, int]]) -> None:
    """Writes the links as stage `duplicates` does; files of `alike` show one drawing."""
    ids = np.array(sorted(posts), np.int64)
    first: dict[int, int] = {}
    for post in ids.tolist():
        first.setdefault(posts[post].file, post)
    links = [
        {"post_a": a, "post_b": b, "link": kind}
        for kind, column in (("exact", "file"), ("source", "source"))
        for a, b in same_key(
            ids, pa.chunked_array([[getattr(posts[p], column) for p in ids.tolist()]], pa.int64())
        ).tolist()
    ]
    for files in alike:
        if files[0] != files[1] and first.keys() >= set(files):
            low, high = sorted(first[file] for file in files)
            links.append({"post_a": low, "post_b": high, "link": "artwork"})
    whole, text = pa.int64(), pa.string()
    columns = {"post_a": whole, "post_b": whole, "link": text}
    write(data_dir / "duplicates" / "links.parquet", links, columns)
    listed = [
        {"post_id": p, "given_group": None if posts[p].scene is None else str(posts[p].scene)}
        for p in ids.tolist()
    ]
    write(data_dir / "listing" / "posts.parquet", listed, {"post_id": whole, "given_group": text})


def assigned(
    posts: Posts, alike: Sequence[tuple[int, int]], kept: Mapping[int, str]
) -> dict[int, str | None]:
    """Returns the split of each post; None for a post that bridges splits."""
    ids = np.array(sorted(posts), np.int64)
    bits = [1 << SPLITS.index(kept[post]) for post in sorted(kept)]
    kept_splits = KeptSplits(np.array(sorted(kept), np.int64), np.array(bits, np.uint8))
    with TemporaryDirectory() as name:
        tables(Path(name), posts, alike)
        links = pairs.of_split(Path(name), ids, kept_splits.posts)
    result = assign(ids, links, seed=0, train=0.4, val=0.3, kept=kept_splits)
    drawn = assign_folds(result, links, seed=0, folds=3)
    folds = {p: f for p, f in zip(result.posts.tolist(), drawn.tolist(), strict=True) if f >= 0}
    assert [] == leaks(folds, posts, alike)
    return {
        post: SPLITS[value >> 1] if value.bit_count() == 1 else None
        for post, value in zip(result.posts.tolist(), result.splits.tolist(), strict=True)
    }


def leaks(
    splits: Mapping[int, object], posts: Posts, alike: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Returns the posts of two splits that share a file, a source, a scene or a drawing."""
    drawings = {frozenset(files) for files in alike}
    return [
        (a, b)
        for a, b in combinations([p for p, split in splits.items() if split is not None], 2)
        if splits[a] != splits[b]
        and (
            any(x == y is not None for x, y in zip(posts[a], posts[b], strict=True))
            or {posts[a].file, posts[b].file} in drawings
        )
    ]


KEYS = st.none() | st.integers(0, 5)
POSTS = st.dictionaries(
    st.integers(-30, 30), st.builds(Shown, st.integers(0, 12), KEYS, KEYS), max_size=25
)
ALIKE = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=8)


@pytest.mark.parametrize("returning", [False, True])
@given(st.lists(POSTS, min_size=2, max_size=4), ALIKE, st.integers(0, 2**32))
def test_kept_posts_never_move_and_nothing_leaks(returning, rounds, alike, seed) -> None:
    """
    Whatever posts come and go, with any ids: kept posts keep their split, and none is refused.

    One that was away may come back to a copy in another split; then one of the two is refused. No two
    posts of different splits share a file, a source, a scene or a drawing. Each round keeps some of
    the posts that the round before did not refuse, since stages drop copies.
    """
    chance = random.Random(seed)
    kept: dict[int, str] = {}
    known: dict[int, Shown] = {}
    gone: set[int] = set()
    for added in rounds:
        known = {p: shown for p, shown in added.items() if p not in gone} | known
        posts = {post: shown for post, shown in known.items() if chance.random() < 0.8}
        splits = assigned(posts, alike, kept)
        of_kept = {post: splits[post] for post in kept if post in posts}
        refused = {post for post, name in of_kept.items() if name is None}

        assert returning or not refused
        assert {p: kept[p] for p in of_kept if p not in refused} == {
            p: name for p, name in of_kept.items() if name
        }
        assert [] == leaks(splits, posts, alike)
        kept |= {post: name for post, name in splits.items() if name and chance.random() < 0.8}
        if not returning:
            gone |= known.keys() - posts.keys()
            known = posts


def test_a_copy_with_a_smaller_id_stands_for_no_kept_post() -> None:
    """A drawing like that of a kept post joins it, though only a new copy of the file is compared."""
    alike = [(1, 2)]
    old, new = {900: Shown(1)}, {20: Shown(1), **{post: Shown(2) for post in range(10)}}

    for name in SPLITS:
        assert {name} == set(assigned(old | new, alike, {900: name}).values())


def test_of_posts_whose_source_was_corrected_one_is_refused() -> None:
    """Two kept posts of different splits that now have one source: the larger id bridges."""
    posts = {post: Shown(post, source=1) for post in (1, 20, 30)}
    splits = assigned(posts, [], {20: "train", 30: "test"})

    assert {1: None, 20: "train", 30: None} == splits


def test_kind_of_a_link_is_checked(tmp_path: Path) -> None:
    """A link without a kind is a named error, where kinds are read."""
    tables(tmp_path, {1: Shown(1), 2: Shown(1)}, [])
    path = tmp_path / "duplicates" / "links.parquet"
    columns = {"post_a": pa.int64(), "post_b": pa.int64(), "link": pa.string()}
    write(path, [{"post_a": 1, "post_b": 2, "link": None}], columns)

    with pytest.raises(BadTable, match=r"'link' of .*links\.parquet has 1 empty"):
        pairs.of_split(tmp_path, np.array([1, 2]), np.array([2]))
