"""
What a split promises: how near the nearest images on different sides are.

Compares every image of one side with every image of the others by perceptual hash, so it shares
neither code nor shortcuts with the search that made the groups.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")
_BLOCK = 512  # rows of each side compared at once: temporary arrays of 2 MB stay in the cache
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


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing the sides with each other gave."""

    closest: Pair | None
    """The pair with the smallest distance, and of those the smallest ids; None without pairs."""
    within: Mapping[str, int] = field(default_factory=dict)
    """Pairs not above the limit by sides, such as `train-test`; empty without a limit."""


def compare(
    post_ids: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    splits: Sequence[str],
    *,
    apart: Collection[tuple[int, int]] = (),
    limit: int | None = None,
) -> Comparison:
    """
    Compares all posts that stand on different sides.

    `hashes` has one row of four words per post; a pair in `apart` is passed over. `limit` is in
    bits.
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
    within: Counter[str] = Counter()
    for sides, rows, others in _blocks(np.asarray(splits)):
        distance = _distances(hashes[rows], hashes[others])
        here = passed[np.isin(passed[:, 0], rows) & np.isin(passed[:, 1], others)]
        distance[np.searchsorted(rows, here[:, 0]), np.searchsorted(others, here[:, 1])] = _NEVER
        if limit is not None:
            within[sides] += int(np.count_nonzero(distance <= limit))
        smallest = int(distance.min())
        if smallest == _NEVER or smallest > best[0]:
            continue
        for row, other in zip(*np.nonzero(distance == smallest), strict=True):
            ends = sorted((int(post_ids[rows[row]]), int(post_ids[others[other]])))
            best = min(best, (smallest, ends[0], ends[1]))
    if best[0] == _NEVER:
        return Comparison(None, within)
    side = dict(zip(post_ids.tolist(), splits, strict=True))
    return Comparison(Pair(best[1], best[2], side[best[1]], side[best[2]], best[0]), within)


def certify(
    rows: Sequence[Mapping[str, Any]],
    *,
    hashes: Mapping[int, bytes],
    apart: Iterable[tuple[int, int]],
    limit: int | None,
) -> dict[str, Any]:
    """
    The closest cross-split pair per label and overall, whether it is above `limit`, and how many
    pairs are not.

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

    def compared(chosen: Sequence[Mapping[str, Any]]) -> Comparison:
        ids = [row["post_id"] for row in chosen]
        words = np.frombuffer(b"".join(hashes[post] for post in ids), np.uint64).reshape(-1, 4)
        splits = [row["split"] for row in chosen]
        return compare(np.array(ids, np.int64), words, splits, apart=crossing, limit=limit)

    def shown(pair: Pair | None) -> dict[str, Any] | None:
        if pair is None:
            return None
        return asdict(pair) | {"above": limit is None or pair.distance > limit}

    by_label: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in hashed:
        by_label[row["label"]].append(row)
    whole = compared(hashed)
    overall = shown(whole.closest)
    return {
        "distance": limit,
        "passed": overall is None or overall["above"],
        "posts": len(rows),
        "posts_without_hash": len(rows) - len(hashed),
        "pairs_told_apart": len(crossing),
        "pairs_within": dict(whole.within),
        "closest": overall,
        "labels": {
            label: shown(compared(chosen).closest) for label, chosen in sorted(by_label.items())
        },
    }


def _blocks(
    splits: NDArray[np.str_],
) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
    """Yields sides and index arrays, ascending, that pair every row with all of other sides once."""
    for first, second in combinations(SPLITS, 2):
        rows, others = np.flatnonzero(splits == first), np.flatnonzero(splits == second)
        for start in range(0, len(rows), _BLOCK):
            for beside in range(0, len(others), _BLOCK):
                block = rows[start : start + _BLOCK], others[beside : beside + _BLOCK]
                yield f"{first}-{second}", *block


def _distances(rows: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Bits that differ between every row of the one and every row of the other."""
    total = np.zeros((len(rows), len(others)), np.uint16)
    for word in range(rows.shape[1]):
        total += np.bitwise_count(rows[:, word, None] ^ others[None, :, word])
    return total
