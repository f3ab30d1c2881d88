"""
The certificate of a split: the smallest distances between images of different splits.

Compares the perceptual hashes of every pair of images of different splits. It uses neither the
code nor the shortcuts of the search that made the duplicate groups. The edges of the images, which no
rule for duplicates uses, are compared by `curation.like`.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from curation.documents import SPLITS, CertificateDocument, CrossPair, LikePair

_BLOCK = 512  # rows of each split compared at once: temporary arrays of 2 MB stay in the cache
_NEVER = 257  # more than the 256 bits of a hash can differ


@dataclass(frozen=True, slots=True)
class SplitComparison:
    """The result of comparing the images of different splits."""

    closest: CrossPair | None
    """The pair with the smallest distance, among those the smallest ids; None without pairs."""
    within: Mapping[str, int] = field(default_factory=dict)
    """Pairs not above the limit by splits, such as `train-test`; empty without a limit."""


def compare(
    post_ids: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    splits: Sequence[str],
    *,
    apart: Collection[tuple[int, int]] = (),
    limit: int | None = None,
) -> SplitComparison:
    """
    Compares all posts of different splits.

    Args:
        post_ids: Ids, ascending, `[posts]`.
        hashes: 256 bits of each post as four words, `[posts, 4]`.
        splits: Split of each post.
        apart: Pairs that are left out.
        limit: Largest distance of duplicates, bits; None if it is unknown.
    """
    row_of = {int(post): row for row, post in enumerate(post_ids)}
    left_out = np.array(
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
    for names, rows, others in _blocks(np.asarray(splits)):
        distance = _distances(hashes[rows], hashes[others])
        here = left_out[np.isin(left_out[:, 0], rows) & np.isin(left_out[:, 1], others)]
        distance[np.searchsorted(rows, here[:, 0]), np.searchsorted(others, here[:, 1])] = _NEVER
        if limit is not None:
            within[names] += int(np.count_nonzero(distance <= limit))
        smallest = int(distance.min())
        if smallest == _NEVER or smallest > best[0]:
            continue
        for row, other in zip(*np.nonzero(distance == smallest), strict=True):
            ends = sorted((int(post_ids[rows[row]]), int(post_ids[others[other]])))
            best = min(best, (smallest, ends[0], ends[1]))
    bits, post_a, post_b = best
    if bits == _NEVER:
        return SplitComparison(None, within)
    split_of = dict(zip(post_ids.tolist(), splits, strict=True))
    closest = CrossPair(
        post_a=post_a,
        post_b=post_b,
        split_a=split_of[post_a],
        split_b=split_of[post_b],
        distance=bits,
        above=limit is None or bits > limit,
    )
    return SplitComparison(closest, within)


def certify(
    rows: Sequence[Mapping[str, Any]],
    *,
    hashes: Mapping[int, bytes],
    apart: Iterable[tuple[int, int]],
    limit: int | None,
    like: Sequence[LikePair],
    least_difference: float,
    mode: Literal["hash", "given"],
    seed: int,
    shares: dict[str, dict[str, float]],
) -> CertificateDocument:
    """
    Returns the closest pair of different splits, per label and overall, and all pairs too near.

    Args:
        rows: Posts with `post_id`, `label` and `split`.
        hashes: 32 bytes per post.
        apart: Pairs with near hashes but different pixels, which are no duplicates.
        limit: Largest distance of duplicates, bits; None if it is unknown.
        like: The pairs of different splits with the most similar edges, closest first.
        least_difference: Parameter `split.least_difference`.
        mode: Parameter `split.mode`.
        seed: Parameter `split.seed`.
        shares: Share of each split, 0..1, for each label.
    """
    hashed = [row for row in rows if row["post_id"] in hashes]
    split_of = {row["post_id"]: row["split"] for row in hashed}
    crossing = {
        (a, b) for a, b in apart if a in split_of and b in split_of and split_of[a] != split_of[b]
    }

    def compared(chosen: Sequence[Mapping[str, Any]]) -> SplitComparison:
        ids = [row["post_id"] for row in chosen]
        words = np.frombuffer(b"".join(hashes[post] for post in ids), np.uint64).reshape(-1, 4)
        splits = [row["split"] for row in chosen]
        return compare(np.array(ids, np.int64), words, splits, apart=crossing, limit=limit)

    by_label: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in hashed:
        by_label[row["label"]].append(row)
    overall = compared(hashed)
    is_far = not like or like[0].difference > least_difference
    return CertificateDocument(
        distance=limit,
        passed=(overall.closest is None or overall.closest.above) and is_far,
        posts=len(rows),
        posts_without_hash=len(rows) - len(hashed),
        pairs_told_apart=len(crossing),
        pairs_within=dict(overall.within),
        closest=overall.closest,
        labels={label: compared(chosen).closest for label, chosen in sorted(by_label.items())},
        least_difference=least_difference,
        like=tuple(like),
        mode=mode,
        seed=seed,
        shares=shares,
    )


def _blocks(
    splits: NDArray[np.str_],
) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
    """Yields names of two splits and ascending indices of rows: all pairs of rows once, in blocks."""
    for first, second in combinations(SPLITS, 2):
        rows, others = np.flatnonzero(splits == first), np.flatnonzero(splits == second)
        for start in range(0, len(rows), _BLOCK):
            for other in range(0, len(others), _BLOCK):
                block = rows[start : start + _BLOCK], others[other : other + _BLOCK]
                yield f"{first}-{second}", *block


def _distances(rows: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Returns the bits that differ, `[rows, others]`, between each row and each other row."""
    total = np.zeros((len(rows), len(others)), np.uint16)
    for word in range(rows.shape[1]):
        total += np.bitwise_count(rows[:, word, None] ^ others[None, :, word])
    return total
