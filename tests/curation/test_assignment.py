"""Tests the split assignment: drawn per group, stable under growth, independent of post order."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.assignment import NONE_KEPT, KeptSplits, assign, assign_folds, drawn, drawn_fold
from personae.selection import SPLITS
from tests.curation.split_fixture import apart


class Assigned(NamedTuple):
    """Group and splits of one post."""

    group_id: int
    splits: tuple[str, ...]


def assigned_arrays(posts: Any, links: Any, kept: KeptSplits = NONE_KEPT) -> Any:
    """Returns the splits with the default shares, as arrays."""
    pairs = np.array(list(links), np.int64).reshape(-1, 2)
    return assign(np.array(posts), pairs, seed=0, train=0.6, val=0.15, kept=kept), pairs


def drawn_splits(posts: Any, links: Any, kept: KeptSplits = NONE_KEPT) -> dict[int, Assigned]:
    """Returns the splits with the default shares."""
    assignment, _ = assigned_arrays(posts, links, kept)
    columns = (assignment.posts, assignment.group_ids, assignment.splits)
    return {
        post: Assigned(group, tuple(name for bit, name in enumerate(SPLITS) if bits >> bit & 1))
        for post, group, bits in zip(*(column.tolist() for column in columns), strict=True)
    }


GRAPHS = st.integers(2, 40).flatmap(
    lambda size: st.lists(
        st.tuples(st.integers(1, size), st.integers(1, size)).filter(
            lambda ends: ends[0] != ends[1]
        ),
        max_size=60,
    ).map(lambda links: (size, links))
)


@given(GRAPHS, st.integers(1, 40))
def test_no_post_changes_split_when_higher_ids_are_added(graph, cut) -> None:
    """Adding posts with higher ids changes the split of no earlier post."""
    size, links = graph
    before = drawn_splits(
        range(1, min(cut, size) + 1), [ends for ends in links if max(ends) <= cut]
    )
    after = drawn_splits(range(1, size + 1), links)

    assert {post: assignment.splits for post, assignment in before.items()} == {
        post: after[post].splits for post in before
    }


@given(GRAPHS)
def test_linked_posts_share_a_split_or_are_refused(graph) -> None:
    """Linked posts that are kept share a split, and each group has one split."""
    size, links = graph
    assigned = drawn_splits(range(1, size + 1), links)
    kept = {post: each for post, each in assigned.items() if len(each.splits) == 1}
    groups: dict[int, set[str]] = {}
    for each in kept.values():
        groups.setdefault(each.group_id, set()).update(each.splits)

    assert all(
        assigned[a].splits == assigned[b].splits for a, b in links if a in kept and b in kept
    )
    assert all(len(splits) == 1 for splits in groups.values())


@given(GRAPHS, st.dictionaries(st.integers(1, 40), st.sampled_from(SPLITS)))
def test_kept_posts_depend_on_kept_posts_alone(graph, sides) -> None:
    """
    Kept posts have their split whatever else there is, unless links of kept posts alone join two.

    Linked posts of a single split share it, and so does each group.
    """
    size, links = graph
    bits = [1 << SPLITS.index(sides[post]) for post in sorted(sides)]
    kept = KeptSplits(np.array(sorted(sides), np.int64), np.array(bits, np.uint8))
    assigned = drawn_splits(range(1, size + 1), links, kept)
    alone = drawn_splits([post for post in sides if post <= size], links, kept)
    groups: dict[int, set[tuple[str, ...]]] = {}
    for each in assigned.values():
        if len(each.splits) == 1:
            groups.setdefault(each.group_id, set()).add(each.splits)

    assert {post: each.splits for post, each in alone.items()} == {
        post: assigned[post].splits for post in alone
    }
    assert all(sides[post] in each.splits for post, each in alone.items())
    if all(sides[a] == sides[b] for a, b in links if {a, b} <= sides.keys()):
        assert {1} >= {len(each.splits) for each in alone.values()}
    assert all(
        assigned[a].splits == assigned[b].splits
        for a, b in links
        if len(assigned[a].splits) == len(assigned[b].splits) == 1
    )
    assert {1} >= {len(splits) for splits in groups.values()}


@given(GRAPHS, st.randoms(use_true_random=False))
def test_order_of_posts_and_links_does_not_matter(graph, chance) -> None:
    """Shuffled posts, shuffled links and swapped link ends give the same splits."""
    size, links = graph
    posts = list(range(1, size + 1))
    shuffled = [chance.choice([(a, b), (b, a)]) for a, b in links]
    chance.shuffle(posts)
    chance.shuffle(shuffled)

    assert drawn_splits(range(1, size + 1), links) == drawn_splits(posts, shuffled)


@given(st.integers(0, 2**60), st.integers(0, 9))
def test_a_group_draws_by_its_id_and_the_seed_alone(group_id, seed) -> None:
    """A larger train share never removes a group from train."""
    small = drawn(group_id, seed=seed, train=0.3, val=0.3)
    large = drawn(group_id, seed=seed, train=0.6, val=0.3)

    assert small != "train" or large == "train"


def test_shares_follow_the_thresholds() -> None:
    """Of 20,000 groups, each split receives its share within 1 percentage point."""
    counts = Counter(drawn(group, seed=1, train=0.6, val=0.15) for group in range(20_000))

    assert pytest.approx([0.6, 0.15, 0.25], abs=0.01) == [counts[name] / 20_000 for name in SPLITS]


def test_what_is_linked_to_a_bridging_post_is_refused_too() -> None:
    """A copy of a post that bridges two splits is refused like that post."""
    first, second = apart("train", "val")
    assigned = drawn_splits([first, second, 900, 901], [(first, 900), (second, 900), (900, 901)])

    assert ("train", "val") == assigned[901].splits


def folds_of(posts: Any, links: Any) -> dict[int, int | None]:
    """Returns the folds of posts with the default shares, three folds."""
    assignment, pairs = assigned_arrays(posts, links)
    folds = assign_folds(assignment, pairs, seed=0, folds=3)
    # Bits 1 and 2: train alone, val alone.
    is_drawn = np.isin(assignment.splits, (1, 2))
    assert (folds[~is_drawn] == -1).all()
    return {
        post: None if fold < 0 else fold
        for post, fold in zip(
            assignment.posts[is_drawn].tolist(), folds[is_drawn].tolist(), strict=True
        )
    }


@given(GRAPHS, st.integers(1, 40))
def test_no_post_changes_fold_when_higher_ids_are_added(graph, cut) -> None:
    """Adding posts with higher ids changes the fold of no earlier post, also where groups merge."""
    size, links = graph
    before = folds_of(range(1, min(cut, size) + 1), [ends for ends in links if max(ends) <= cut])
    after = folds_of(range(1, size + 1), links)

    assert before == {post: after[post] for post in before}


@given(GRAPHS)
def test_linked_posts_share_a_fold_or_have_none(graph) -> None:
    """Posts of train and val have folds, and linked posts share theirs unless one would join two."""
    size, links = graph
    assigned = drawn_splits(range(1, size + 1), links)
    folds = folds_of(range(1, size + 1), links)

    assert folds.keys() == {
        p for p, each in assigned.items() if each.splits in (("train",), ("val",))
    }
    assert set(folds.values()) <= {0, 1, 2, None}
    assert all(folds[a] == folds[b] for a, b in links if None not in (folds.get(a), folds.get(b)))
    linked = {post for ends in links for post in ends}
    assert all(
        fold == drawn_fold(p, seed=0, folds=3) for p, fold in folds.items() if p not in linked
    )


@given(GRAPHS, st.randoms(use_true_random=False))
def test_order_of_posts_and_links_does_not_matter_to_folds(graph, chance) -> None:
    """Shuffled posts, shuffled links and swapped link ends give the same folds."""
    size, links = graph
    posts = list(range(1, size + 1))
    shuffled = [chance.choice([(a, b), (b, a)]) for a, b in links]
    chance.shuffle(posts)
    chance.shuffle(shuffled)

    assert folds_of(range(1, size + 1), links) == folds_of(posts, shuffled)


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_folds_are_equal_and_independent_of_the_splits(folds) -> None:
    """Of 20,000 groups each fold has its share within 1 point, and so it has of those of train."""
    ids = range(20_000)
    train = [post for post in ids if drawn(post, seed=1, train=0.6, val=0.15) == "train"]
    for posts in (ids, train):
        counts = Counter(drawn_fold(post, seed=1, folds=folds) for post in posts)
        assert [*range(folds)] == sorted(counts)
        assert pytest.approx([1 / folds] * folds, abs=0.01) == [
            counts[fold] / len(posts) for fold in range(folds)
        ]
