"""
The certificate of a split: the smallest distances between images of different splits.

Compares the perceptual hashes of every pair of images of different splits. It uses neither the
code nor the shortcuts of the search that made the duplicate groups. Where the pairs are more than four
billion (some 120,000 images), that search finds those of different labels. The edges of the images,
which no rule for duplicates uses, are compared by `curation.like`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation import rows
from curation.documents import CertificateDocument, CrossPair, LikePair
from curation.hamming import first_rows, near_pairs
from personae.selection import SPLITS

_BLOCK = 512  # rows of each split compared at once: temporary arrays of 2 MB stay in the cache
_MOST_PAIRS = 2**32  # compared one by one: some 30 s on one core
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
    splits: NDArray[np.str_],
    *,
    apart: NDArray[np.int64],
    limit: int | None = None,
) -> SplitComparison:
    """
    Compares all posts of different splits.

    Args:
        post_ids: Ids, ascending, `[posts]`.
        hashes: 256 bits of each post as four words, `[posts, 4]`.
        splits: Split of each post, `[posts]`.
        apart: Pairs of ids that are left out, `[pairs, 2]`.
        limit: Largest distance of duplicates, bits; None if it is unknown.
    """
    inside = np.searchsorted(post_ids, apart[np.isin(apart, post_ids).all(axis=1)])
    left_out = np.concatenate([inside, inside[:, ::-1]])
    best = (_NEVER, 0, 0)
    within: Counter[str] = Counter()
    for names, first, second in _blocks(splits):
        distance = _distances(hashes[first], hashes[second])
        here = left_out[np.isin(left_out[:, 0], first) & np.isin(left_out[:, 1], second)]
        distance[np.searchsorted(first, here[:, 0]), np.searchsorted(second, here[:, 1])] = _NEVER
        if limit is not None:
            within[names] += int(np.count_nonzero(distance <= limit))
        smallest = int(distance.min())
        if smallest == _NEVER or smallest > best[0]:
            continue
        for row, other in zip(*np.nonzero(distance == smallest), strict=True):
            ends = sorted((int(post_ids[first[row]]), int(post_ids[second[other]])))
            best = min(best, (smallest, ends[0], ends[1]))
    return SplitComparison(_pair(best, post_ids, splits, limit), within)


def compare_within(
    post_ids: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    splits: NDArray[np.str_],
    *,
    apart: NDArray[np.int64],
    limit: int,
) -> SplitComparison:
    """
    Compares the posts of different splits whose hashes differ in at most `limit` bits.

    For sets whose pairs are too many to compare: the pairs come from `curation.hamming`. Arguments as
    for `compare`.
    """
    distinct, of_row = first_rows(hashes)
    is_distinct = len(distinct) == len(hashes)
    low, high, bits = near_pairs(hashes if is_distinct else hashes[distinct], limit)
    # Posts of one hash are near each other too.
    low, high = (np.concatenate([np.arange(len(distinct)), ends]) for ends in (low, high))
    bits = np.concatenate([np.zeros(len(distinct), np.int64), bits])
    held = np.zeros(len(distinct), np.int64)  # splits of each hash, as bits
    np.bitwise_or.at(held, of_row, 1 << np.argmax(splits == np.array(SPLITS)[:, None], axis=0))
    crossing = np.bitwise_count(held[low] | held[high]) > 1
    by_hash = np.argsort(of_row, kind="stable")
    starts = np.searchsorted(of_row[by_hash], np.arange(len(distinct) + 1))
    left_out = set(map(tuple, np.sort(apart, axis=1).tolist()))
    best = (_NEVER, 0, 0)
    within: Counter[str] = Counter()
    for first, second, distance in zip(
        low[crossing].tolist(), high[crossing].tolist(), bits[crossing].tolist(), strict=True
    ):
        others = by_hash[starts[second] : starts[second + 1]]
        for row in by_hash[starts[first] : starts[first + 1]].tolist():
            later = others[others > row] if first == second else others
            for other in later[splits[later] != splits[row]].tolist():
                ends = sorted((int(post_ids[row]), int(post_ids[other])))
                if (ends[0], ends[1]) not in left_out:
                    names = sorted((str(splits[row]), str(splits[other])), key=SPLITS.index)
                    within["-".join(names)] += 1
                    best = min(best, (distance, ends[0], ends[1]))
    return SplitComparison(_pair(best, post_ids, splits, limit), within)


def _pair(
    best: tuple[int, int, int],
    post_ids: NDArray[np.int64],
    splits: NDArray[np.str_],
    limit: int | None,
) -> CrossPair | None:
    """Returns the pair of a distance and two ids; None where the distance is that of no pair."""
    bits, *ends = best
    if bits == _NEVER:
        return None
    split_a, split_b = (str(splits[np.searchsorted(post_ids, post)]) for post in ends)
    return CrossPair(
        post_a=ends[0],
        post_b=ends[1],
        split_a=split_a,
        split_b=split_b,
        distance=bits,
        above=limit is None or bits > limit,
    )


def certify(
    kept: pa.Table,
    *,
    hashes: pa.ChunkedArray,
    apart: NDArray[np.int64],
    limit: int | None,
    like: Sequence[LikePair],
    least_difference: float,
    mode: Literal["hash", "stratified", "given"],
    seed: int,
    shares: dict[str, dict[str, float]],
) -> CertificateDocument:
    """
    Returns the closest pair of different splits, per label and overall, and all pairs too near.

    Args:
        kept: Posts by id, with `post_id`, `label` and `split`.
        hashes: 32 bytes per post, or null.
        apart: Pairs with near hashes but different pixels, which are no duplicates, `[pairs, 2]`.
        limit: Largest distance of duplicates, bits; None if it is unknown.
        like: The pairs of different splits with the most similar edges, closest first.
        least_difference: Parameter `split.least_difference`.
        mode: Parameter `split.mode`.
        seed: Parameter `split.seed`.
        shares: Share of each split, 0..1, for each label.
    """
    hashed = kept.select(["post_id", "label", "split"])
    if hashes.null_count:  # copies of millions of rows are made only where they differ
        hashed, hashes = hashed.filter(hashes.is_valid()), hashes.drop_null()
    post_ids = hashed["post_id"].to_numpy()
    splits = np.array(SPLITS)[pc.index_in(hashed["split"], pa.array(SPLITS)).to_numpy()]
    words = rows.hashes(hashes)
    apart = apart[np.isin(apart, post_ids).all(axis=1)]
    ends = splits[np.searchsorted(post_ids, apart)]
    crossing = np.unique(apart[ends[:, 0] != ends[:, 1]], axis=0)
    labels = {
        label: compare(
            post_ids[of_label], words[of_label], splits[of_label], apart=pairs, limit=limit
        ).closest
        for label, of_label, pairs in _by_label(hashed["label"], post_ids, crossing)
    }
    overall, searched = _overall(post_ids, words, splits, apart=crossing, limit=limit)
    closest = overall.closest or min(
        (pair for pair in labels.values() if pair is not None),
        key=lambda pair: (pair.distance, pair.post_a, pair.post_b),
        default=None,
    )
    is_far = not like or like[0].difference > least_difference
    certified = CertificateDocument(
        distance=limit,
        passed=(closest is None or closest.above) and is_far,
        posts=kept.num_rows,
        posts_without_hash=kept.num_rows - hashed.num_rows,
        pairs_told_apart=len(crossing),
        pairs_within=dict(overall.within),
        closest=closest,
        labels=labels,
        least_difference=least_difference,
        like=tuple(like),
        mode=mode,
        seed=seed,
        shares=shares,
    )
    # Left out of the file where all pairs were compared.
    return certified if searched is None else certified.model_copy(update={"searched": searched})


def _overall(
    post_ids: NDArray[np.int64],
    words: NDArray[np.uint64],
    splits: NDArray[np.str_],
    *,
    apart: NDArray[np.int64],
    limit: int | None,
) -> tuple[SplitComparison, int | None]:
    """
    Compares all posts; returns also the distance searched, None where all pairs were compared.

    Arguments as for `compare`.
    """
    if limit is None or _pairs(splits) <= _MOST_PAIRS:
        return compare(post_ids, words, splits, apart=apart, limit=limit), None
    # Arrow keeps the memory of tables that are gone, which the search needs.
    pa.default_memory_pool().release_unused()
    return compare_within(post_ids, words, splits, apart=apart, limit=limit), limit


def _by_label(
    column: pa.ChunkedArray, post_ids: NDArray[np.int64], pairs: NDArray[np.int64]
) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
    """Yields each label, sorted, with its rows and the pairs of ids whose two posts have it."""
    by_label = list(rows.by_value(column))
    number = np.empty(len(post_ids), np.int64)
    for index, (_, of_label) in enumerate(by_label):
        number[of_label] = index
    first, second = number[np.searchsorted(post_ids, pairs)].T
    pairs, of_pair = pairs[first == second], first[first == second]
    order = np.argsort(of_pair, kind="stable")
    starts = np.searchsorted(of_pair[order], np.arange(len(by_label) + 1))
    for (label, of_label), start, end in zip(by_label, starts[:-1], starts[1:], strict=True):
        yield label, of_label, pairs[order[start:end]]


def _pairs(splits: NDArray[np.str_]) -> int:
    """Returns the number of pairs of posts of different splits."""
    counts = [int((splits == name).sum()) for name in SPLITS]
    return (sum(counts) ** 2 - sum(count**2 for count in counts)) // 2


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
