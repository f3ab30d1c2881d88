"""Tests the draw by label: shares of few images, linked posts, and posts that keep their split."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import split
from curation.assignment import KeptSplits, assign_drawn
from curation.errors import TooFewSamples
from curation.stratified import draws
from personae.selection import SPLITS
from tests.curation.split_fixture import Folder

SHARES = {"train": 0.6, "val": 0.15}


def drawn(labels, links=(), *, seed=0, kept=()):
    """Returns the split that each post draws; post n has the label `labels[n - 1]`, -1 for none."""
    posts = np.arange(1, len(labels) + 1)
    pairs = np.array(list(links), np.int64).reshape(-1, 2)
    ids, bits = zip(*sorted(kept), strict=True) if kept else ((), ())
    kept = KeptSplits(np.array(ids, np.int64), np.array([1 << bit for bit in bits], np.uint8))
    return draws(posts, pairs, np.array(labels), seed=seed, kept=kept, **SHARES)


@given(sizes=st.lists(st.integers(3, 60), min_size=1, max_size=8), seed=st.integers(0, 10_000))
def test_every_label_has_its_shares(sizes, seed) -> None:
    """No split of a label is empty, and none is more than one post from its share where all fit."""
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]

    splits = drawn(labels, seed=seed)

    for label, size in enumerate(sizes):
        counts = Counter(splits[post + 1] for post, each in enumerate(labels) if each == label)
        for number, share in enumerate((0.6, 0.15, 0.25)):
            assert counts[number] >= 1
            assert size < 7 or abs(counts[number] - share * size) <= 1


@given(
    labels=st.lists(st.integers(-1, 3), min_size=2, max_size=40),
    links=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), max_size=30),
    seed=st.integers(0, 100),
)
def test_linked_posts_draw_the_same_split(labels, links, seed) -> None:
    """So no post is refused as a bridge; links to posts that are not there have no effect."""
    splits = drawn(labels, links, seed=seed)

    posts = np.arange(1, len(labels) + 1)
    pairs = np.array(links, np.int64).reshape(-1, 2)
    assigned = assign_drawn(posts, pairs, splits.__getitem__).splits

    assert all(splits[a] == splits[b] for a, b in links if a <= len(labels) and b <= len(labels))
    assert [1 << splits[post] for post in posts.tolist()] == assigned.tolist()


@given(
    labels=st.lists(st.integers(0, 2), min_size=3, max_size=30),
    kept=st.dictionaries(st.integers(1, 30), st.integers(0, 2), max_size=10),
)
def test_kept_posts_and_their_group_stay(labels, kept) -> None:
    """A post draws the split that it, or a post that it is linked to, keeps."""
    kept = {post: split for post, split in kept.items() if post < len(labels)}
    newest = len(labels)

    splits = drawn(labels, [(post, newest) for post in list(kept)[:1]], kept=kept.items())

    assert kept == {post: splits[post] for post in kept}
    assert all(splits[newest] == kept[post] for post in list(kept)[:1])


def test_kept_posts_count_towards_the_shares() -> None:
    """Ten posts of which six stay in test: the others go to train and val."""
    splits = drawn([0] * 10, kept=[(post, 2) for post in range(1, 7)])

    assert Counter(splits.values()) == {2: 6, 0: 3, 1: 1}


def test_seed_changes_the_draw() -> None:
    """The order of the groups is that of their hashes with the seed."""
    assert drawn([0] * 30, seed=0) == drawn([0] * 30, seed=0) != drawn([0] * 30, seed=1)


def test_small_labels_need_no_other_seed(tmp_path) -> None:
    """A data set whose labels have few images splits at once, and hash names this mode."""
    folder = Folder(tmp_path, posts=12, labels=6)
    with pytest.raises(TooFewSamples, match=r"Set `split.mode: stratified`"):
        folder.run(split.Params(tolerance=0.01))

    folder.run(split.Params(mode="stratified"))

    certificate = folder.certificate()
    assert "stratified" == certificate["mode"]
    assert all(shares[name] > 0 for shares in certificate["shares"].values() for name in SPLITS)


def test_label_of_fewer_groups_than_splits_is_an_error(tmp_path) -> None:
    """Two samples cannot be in three splits."""
    with pytest.raises(TooFewSamples, match=r"has no sample in val: its 2 samples"):
        Folder(tmp_path, posts=1, labels=1).run(split.Params(mode="stratified"))
