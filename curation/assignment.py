"""
The split and the fold of each post, drawn by hash for each duplicate group.

The functions read no file.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from curation.documents import SPLITS
from curation.groups import groups_of

DrawT = TypeVar("DrawT", str, int)


@dataclass(frozen=True, slots=True)
class Assignment:
    """The split of a post, or several splits if the post would bridge groups."""

    group_id: int
    """Smallest post id of the group; posts that would bridge join no group."""
    splits: tuple[str, ...]
    """In the order train, val, test; several splits mean refused as `bridges_splits`."""


def drawn(group_id: int, *, seed: int, train: float, val: float) -> str:
    """
    Returns the split that is drawn for a group.

    The sha256 of `seed:group_id` gives a number in [0, 1), which is compared with `train` and
    `train + val`.
    """
    number = _number(f"{seed}:{group_id}")
    if number < train:
        return "train"
    return "val" if number < train + val else "test"


def drawn_fold(group_id: int, *, seed: int, folds: int) -> int:
    """Returns the fold 0..folds - 1 of a group: by the sha256 of `seed:fold:group_id`."""
    return int(_number(f"{seed}:fold:{group_id}") * folds)


def assign(
    posts: Iterable[int],
    links: Iterable[tuple[int, int]],
    *,
    seed: int,
    train: float,
    val: float,
) -> dict[int, Assignment]:
    """
    Assigns a split to every post, in the order of ids, from posts with smaller ids alone.

    A post without a link to smaller ids draws its split. A post linked to posts of a single split
    joins that split. A post linked to several splits gets all of them, and so do the posts that are
    linked to it later. Therefore no later post changes the split of an earlier post, and two linked
    posts with a single split each have the same split.
    """
    splits_of, joined = _assigned(
        posts, links, lambda post: drawn(post, seed=seed, train=train, val=val)
    )
    group_of = groups_of(splits_of, joined)
    return {
        post: Assignment(group_of[post], tuple(name for name in SPLITS if name in splits))
        for post, splits in splits_of.items()
    }


def assign_folds(
    assignments: Mapping[int, Assignment],
    links: Iterable[tuple[int, int]],
    *,
    seed: int,
    folds: int,
) -> dict[int, int | None]:
    """
    Assigns a fold to every post of train and val, by the rule of `assign`.

    Train and val share the folds: what is left out of a fold of cross-validation is left out of both.
    The fold of a post that is linked to several folds is None, since it would join them. Therefore no
    later post changes the fold of an earlier post, and two linked posts with a fold have the same.
    """
    posts = {post for post, each in assignments.items() if each.splits in (("train",), ("val",))}
    inside = (ends for ends in links if ends[0] in posts and ends[1] in posts)
    folds_of, _ = _assigned(posts, inside, lambda post: drawn_fold(post, seed=seed, folds=folds))
    return {post: min(each) if len(each) == 1 else None for post, each in folds_of.items()}


def _assigned(
    posts: Iterable[int], links: Iterable[tuple[int, int]], draw: Callable[[int], DrawT]
) -> tuple[dict[int, frozenset[DrawT]], list[tuple[int, int]]]:
    """Returns what each post draws or touches, and the links of posts that touch no second value."""
    earlier: dict[int, list[int]] = defaultdict(list)
    for post_a, post_b in links:
        earlier[max(post_a, post_b)].append(min(post_a, post_b))
    values_of: dict[int, frozenset[DrawT]] = {}
    joined: list[tuple[int, int]] = []
    for post in sorted(set(posts)):
        near = [other for other in earlier[post] if other in values_of]
        touched = frozenset(value for other in near for value in values_of[other])
        if len(touched) <= 1:
            joined += [(other, post) for other in near]
        values_of[post] = touched or frozenset((draw(post),))
    return values_of, joined


def _number(text: str) -> float:
    """Returns a number in [0, 1): the first six bytes of the sha256 of `text`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
