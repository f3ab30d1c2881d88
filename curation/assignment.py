"""
The split and the fold of each post, drawn by hash for each duplicate group.

The functions read no file.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation import rows as rows_by_id
from curation.groups import groups_of
from personae.selection import SPLITS

Ids = npt.NDArray[np.int64]

_NO_FOLD = -1
_STEP = 100_000  # numbers that are Python objects at once


@dataclass(frozen=True, slots=True)
class Assignment:
    """The split of each post, or several splits if the post would bridge groups."""

    posts: Ids
    """Ids, ascending, `[posts]`."""
    group_ids: Ids
    """Smallest post id of each post's group, `[posts]`; posts that would bridge join no group."""
    splits: npt.NDArray[np.uint8]
    """
    Splits of each post, `[posts]`: bit 0 for train, 1 for val, 2 for test. Several splits mean refused
    as `bridges_splits`.
    """


@dataclass(frozen=True, slots=True)
class KeptSplits:
    """Posts that keep the split that they had in an earlier build."""

    posts: Ids
    """Ids, ascending, each once, `[kept]`."""
    splits: npt.NDArray[np.uint8]
    """The split of each: bit 0 for train, 1 for val, 2 for test, `[kept]`."""

    def of(self, posts: Ids) -> npt.NDArray[np.uint8]:
        """Returns the split of each of `posts`, ascending; 0 for a post that keeps none."""
        splits = np.zeros(len(posts), np.uint8)
        is_there = rows_by_id.are_among(self.posts, posts)
        splits[np.searchsorted(posts, self.posts[is_there])] = self.splits[is_there]
        return splits


NONE_KEPT = KeptSplits(np.empty(0, np.int64), np.empty(0, np.uint8))


def drawn(group_id: int, *, seed: int, train: float, val: float) -> str:
    """
    Returns the split that is drawn for a group.

    The sha256 of `seed:group_id` gives a number in [0, 1), which is compared with `train` and
    `train + val`.
    """
    draw = number(f"{seed}:{group_id}")
    if draw < train:
        return "train"
    return "val" if draw < train + val else "test"


def drawn_fold(group_id: int, *, seed: int, folds: int) -> int:
    """Returns the fold 0..folds - 1 of a group: by the sha256 of `seed:fold:group_id`."""
    return int(number(f"{seed}:fold:{group_id}") * folds)


def assign(
    posts: Ids,
    links: Ids,
    *,
    seed: int,
    train: float,
    val: float,
    kept: KeptSplits = NONE_KEPT,
) -> Assignment:
    """
    Assigns a split to every post: first to posts that keep theirs, then to the others, each by id.

    A post without a link to posts before it draws its split. A post linked to posts of a single split
    joins that split. A post linked to several splits gets all of them, and so do the posts that are
    linked to it later. Therefore no later post changes the split of an earlier post, and two linked
    posts with a single split each have the same split.

    A post that keeps its split has it, and those of the kept posts before it that it is linked to.
    So posts that keep no split have no effect on those that do, whatever their ids.

    Args:
        posts: Ids, in any order, `[posts]`.
        links: Pairs of ids, `[links, 2]`; an id that is not among `posts` has no effect.
        seed: Seed of the draw.
        train: Share of the groups for train, 0..1.
        val: Share of the groups for val, 0..1.
        kept: The posts that keep their split; one that is not among `posts` has no effect.
    """
    return assign_drawn(
        posts,
        links,
        lambda post: SPLITS.index(drawn(post, seed=seed, train=train, val=val)),
        kept=kept,
    )


def assign_drawn(
    posts: Ids, links: Ids, draw: Callable[[int], int], *, kept: KeptSplits = NONE_KEPT
) -> Assignment:
    """Assigns splits as `assign` does; `draw` returns what a post draws, 0 to 2."""
    posts = rows_by_id.distinct(posts)
    splits, joined = _assigned(posts, links, draw, kept.of(posts))
    return Assignment(posts, groups_of(posts, joined), np.array(splits, np.uint8))


def assign_folds(
    assignment: Assignment, links: Ids, *, seed: int, folds: int
) -> npt.NDArray[np.int32]:
    """
    Assigns a fold to every post of train and val, in the order of ids; the others have -1.

    Train and val share the folds: what is left out of a fold of cross-validation is left out of both.
    The fold of a post that is linked to several folds is -1, since it would join them. Therefore no
    later post changes the fold of an earlier post, and two linked posts with a fold have the same.
    """
    inside = np.flatnonzero(np.isin(assignment.splits, (1, 2)))
    drawn_bits, _ = _assigned(
        assignment.posts[inside],
        links,
        lambda post: drawn_fold(post, seed=seed, folds=folds),
        np.zeros(len(inside), np.uint8),
    )
    result = np.full(len(assignment.posts), _NO_FOLD, np.int32)
    result[inside] = [
        bits.bit_length() - 1 if bits.bit_count() == 1 else _NO_FOLD for bits in drawn_bits
    ]
    return result


def _assigned(
    posts: Ids, links: Ids, draw: Callable[[int], int], kept: npt.NDArray[np.uint8]
) -> tuple[list[int], Ids]:
    """
    Returns the numbers that each post draws or touches, and the links of posts that touch only one.

    The numbers of a post are bits. Posts are ascending; those with a number in `kept` come first.
    """
    order = np.argsort(kept == 0, kind="stable")
    position = np.argsort(order)
    links = links.reshape(-1, 2)
    links = links[np.isin(links, posts).all(axis=1) & (links[:, 0] != links[:, 1])]
    positions = np.sort(position[np.searchsorted(posts, links)], axis=1)
    by_later = np.argsort(positions[:, 1], kind="stable")
    earlier = positions[by_later, 0].tolist()
    ends = np.searchsorted(positions[by_later, 1], np.arange(len(posts)), side="right")
    values: list[int] = []
    start = 0
    for post, own, end in zip(
        _numbers(posts[order]), _numbers(kept[order]), _numbers(ends), strict=True
    ):
        touched = own
        for other in earlier[start:end]:
            touched |= values[other]
        values.append(touched or 1 << draw(post))
        start = end
    is_single = np.fromiter((value.bit_count() == 1 for value in values), np.bool_, len(values))
    return [values[index] for index in _numbers(position)], links[is_single[positions[:, 1]]]


def _numbers(array: npt.NDArray[np.integer]) -> Iterator[int]:
    """Yields the numbers of an array; a list of all of them would take five times its memory."""
    for start in range(0, len(array), _STEP):
        yield from array[start : start + _STEP].tolist()


def number(text: str) -> float:
    """Returns a number in [0, 1): the first six bytes of the sha256 of `text`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
