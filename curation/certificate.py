"""
What a split promises: how near the nearest pictures on different sides are.

Compares every picture of one side with every picture of the others by perceptual hash, so it shares
neither code nor shortcuts with the search that made the groups.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")
_BLOCK = 2048  # rows of each side compared at once: about 40 MB of temporary arrays
_NEVER = 257  # more than the 256 bits of a hash can differ


@dataclass(frozen=True, slots=True)
class Pair:
    """Two posts on different sides, the first with the smaller id."""

    post_a: int
    post_b: int
    split_a: str
    split_b: str
    distance: int
    """Bits that differ between the two 256-bit perceptual hashes."""


def closest(
    post_ids: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    splits: Sequence[str],
    *,
    apart: Collection[tuple[int, int]] = (),
) -> Pair | None:
    """
    The cross-split pair with the smallest distance, and of those the smallest ids.

    `hashes` has one row of four words per post; a pair in `apart` is passed over. None when no
    two posts stand on different sides.
    """
    row_of = {int(post): row for row, post in enumerate(post_ids)}
    passed = np.array(
        [
            (row_of[a], row_of[b])
            for pair in apart
            for a, b in (pair, pair[::-1])
            if a in row_of and b in row_of
        ],
        np.int64,
    ).reshape(-1, 2)
    best = (_NEVER, 0, 0)
    for rows, others in _blocks(np.asarray(splits)):
        distance = _distances(hashes[rows], hashes[others])
        here = passed[np.isin(passed[:, 0], rows) & np.isin(passed[:, 1], others)]
        distance[np.searchsorted(rows, here[:, 0]), np.searchsorted(others, here[:, 1])] = _NEVER
        smallest = int(distance.min())
        if smallest == _NEVER or smallest > best[0]:
            continue
        for row, other in zip(*np.nonzero(distance == smallest), strict=True):
            ends = sorted((int(post_ids[rows[row]]), int(post_ids[others[other]])))
            best = min(best, (smallest, ends[0], ends[1]))
    if best[0] == _NEVER:
        return None
    side = dict(zip(post_ids.tolist(), splits, strict=True))
    return Pair(best[1], best[2], side[best[1]], side[best[2]], best[0])


def certify(
    rows: Sequence[Mapping[str, Any]],
    *,
    hashes: Mapping[int, bytes],
    apart: Iterable[tuple[int, int]],
    limit: int | None,
) -> dict[str, Any]:
    """
    The closest cross-split pair per label and overall, and whether it is above `limit`.

    Args:
        rows: Posts with `post_id`, `label` and `split`.
        hashes: 32 bytes per post.
        apart: Pairs with near hashes whose pixels were found different: no duplicates.
        limit: Largest distance of duplicates, in bits; None when it is not known.
    """
    hashed = [row for row in rows if row["post_id"] in hashes]
    side = {row["post_id"]: row["split"] for row in hashed}
    crossing = {
        pair
        for pair in apart
        if pair[0] in side and pair[1] in side and side[pair[0]] != side[pair[1]]
    }

    def nearest(chosen: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        ids = [row["post_id"] for row in chosen]
        words = np.frombuffer(b"".join(hashes[post] for post in ids), np.uint64).reshape(-1, 4)
        splits = [row["split"] for row in chosen]
        pair = closest(np.array(ids, np.int64), words, splits, apart=crossing)
        if pair is None:
            return None
        return asdict(pair) | {"above": limit is None or pair.distance > limit}

    by_label: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in hashed:
        by_label[row["label"]].append(row)
    overall = nearest(hashed)
    return {
        "distance": limit,
        "passed": overall is None or overall["above"],
        "posts": len(rows),
        "posts_without_hash": len(rows) - len(hashed),
        "pairs_told_apart": len(crossing),
        "closest": overall,
        "labels": {label: nearest(chosen) for label, chosen in sorted(by_label.items())},
    }


def _blocks(splits: NDArray[np.str_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yields index arrays, ascending, that together pair every row with all of other splits once."""
    for number, first in enumerate(SPLITS):
        rows = np.flatnonzero(splits == first)
        others = np.flatnonzero(np.isin(splits, SPLITS[number + 1 :]))
        for start in range(0, len(rows), _BLOCK):
            for beside in range(0, len(others), _BLOCK):
                yield rows[start : start + _BLOCK], others[beside : beside + _BLOCK]


def _distances(rows: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Bits that differ between every row of the one and every row of the other."""
    total = np.zeros((len(rows), len(others)), np.uint16)
    for word in range(rows.shape[1]):
        total += np.bitwise_count(rows[:, word, None] ^ others[None, :, word])
    return total
