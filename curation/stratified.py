"""
The split that each post draws where every label gets its shares, however few images it has.

Groups of linked posts are taken in the order of their hashes. The first three of a label go to train,
test and val; each further one goes where its label lacks most. So the shares are as near as whole
groups allow, and a group that is added can change the draw of those behind it.
"""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation import rows as rows_by_id
from curation.assignment import NONE_KEPT, KeptSplits, drawn, number
from curation.groups import groups_of
from personae.selection import SPLITS

Ids = npt.NDArray[np.int64]

_FIRST = tuple(map(SPLITS.index, ("train", "test", "val")))
"""The splits that get a group of a label before any gets a second one."""


def draws(
    posts: Ids,
    links: Ids,
    labels: Ids,
    *,
    seed: int,
    train: float,
    val: float,
    kept: KeptSplits = NONE_KEPT,
) -> dict[int, int]:
    """
    Returns the split that each post draws: 0 for train, 1 for val, 2 for test.

    Linked posts draw the same split, and that of a post among them which keeps its split. A group
    without a label draws by its hash alone.

    Args:
        posts: Ids, ascending, each once, `[posts]`.
        links: Pairs of ids, `[links, 2]`; an id that is not among `posts` has no effect.
        labels: The number of the label of each post, -1 for none, `[posts]`.
        seed: Seed of the order.
        train: Share of each label for train, 0..1.
        val: Share of each label for val, 0..1.
        kept: The posts that keep their split.
    """
    groups = groups_of(posts, links[np.isin(links, posts).all(axis=1)])
    label_of: dict[int, int] = {}
    sizes: Counter[int] = Counter()
    for group, label in zip(groups.tolist(), labels.tolist(), strict=True):
        if label >= 0:
            label_of.setdefault(group, label)
            sizes[group] += 1
    split_of = _kept_groups(groups, kept.of(posts))
    strata = {label: _Stratum(train, val) for label in label_of.values()}
    for group, label in label_of.items():
        strata[label].total += sizes[group]
        if group in split_of:
            strata[label].counts[split_of[group]] += sizes[group]
    names = rows_by_id.distinct(groups).tolist()
    for group in sorted(names, key=lambda group: number(f"{seed}:{group}")):
        if group in split_of:
            continue
        if group in label_of:
            split_of[group] = strata[label_of[group]].take(sizes[group])
        else:
            split_of[group] = SPLITS.index(drawn(group, seed=seed, train=train, val=val))
    return {
        post: split_of[group] for post, group in zip(posts.tolist(), groups.tolist(), strict=True)
    }


def label_numbers(labels: pa.Table, posts: Ids) -> Ids:
    """Returns the number of the label of each of `posts`, -1 for none."""
    encoded = labels["label"].combine_chunks().dictionary_encode().indices.to_numpy()
    numbers = np.full(len(posts), -1, np.int64)
    labelled = labels["post_id"].to_numpy()
    is_there = rows_by_id.are_among(labelled, posts)
    numbers[np.searchsorted(posts, labelled[is_there])] = encoded[is_there]
    return numbers


def _kept_groups(groups: Ids, splits: npt.NDArray[np.uint8]) -> dict[int, int]:
    """Returns the split of each group with a post that keeps its split: that of the first such post."""
    keeps = np.flatnonzero(splits)
    split_of: dict[int, int] = {}
    for group, bits in zip(groups[keeps].tolist(), splits[keeps].tolist(), strict=True):
        split_of.setdefault(group, bits.bit_length() - 1)
    return split_of


class _Stratum:
    """The samples of one label, and how many of them each split has so far."""

    def __init__(self, train: float, val: float) -> None:
        self.shares = (train, val, 1 - train - val)
        self.total = 0
        self.counts = [0, 0, 0]

    def take(self, size: int) -> int:
        """Adds a group of `size` samples to the split that lacks most, and returns the split."""
        empty = [split for split in _FIRST if not self.counts[split]]
        lacking = [
            share * self.total - count
            for share, count in zip(self.shares, self.counts, strict=True)
        ]
        split = empty[0] if empty else lacking.index(max(lacking))
        self.counts[split] += size
        return split
