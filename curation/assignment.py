"""The split of each post, drawn by hash for each duplicate group; the functions read no file."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from curation.documents import SPLITS
from curation.groups import groups_of


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
    digest = hashlib.sha256(f"{seed}:{group_id}".encode()).digest()
    number = int.from_bytes(digest[:6], "big") / 2**48
    if number < train:
        return "train"
    return "val" if number < train + val else "test"


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
    known = sorted(set(posts))
    earlier: dict[int, list[int]] = defaultdict(list)
    for post_a, post_b in links:
        earlier[max(post_a, post_b)].append(min(post_a, post_b))
    splits_of: dict[int, tuple[str, ...]] = {}
    joined: list[tuple[int, int]] = []
    for post in known:
        near = [other for other in earlier[post] if other in splits_of]
        touched = {split for other in near for split in splits_of[other]}
        if len(touched) <= 1:
            joined += [(other, post) for other in near]
        splits = touched or {drawn(post, seed=seed, train=train, val=val)}
        splits_of[post] = tuple(split for split in SPLITS if split in splits)
    group_of = groups_of(known, joined)
    return {post: Assignment(group_of[post], splits) for post, splits in splits_of.items()}
