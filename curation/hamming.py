"""Pairs of near 256-bit hashes, by multi-index hashing in numpy instead of comparing all pairs."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt

from curation.rows import distinct

Hashes = npt.NDArray[np.uint64]  # [rows, 4]: 256 bits each
Indices = npt.NDArray[np.int64]

BITS = 256
MOST = 31  # largest distance that can be searched
_THREADS = 2  # each needs 120 MB for a million rows
_WIDEST = 24  # bits of a band: its table of 16 million numbers takes 64 MB
_MIRROR = np.uint64(0x5555_5555_5555_5555)  # bits of a word that mirroring an image changes
_STEP = 20_000  # rows that are looked up in the time that one more lookup of any length takes
_COMPARISON = 10  # rows that are looked up in the time that two rows are compared


def near_pairs(
    hashes: Hashes, distance: int, search: "BandSearch | None" = None
) -> tuple[Indices, Indices, Indices]:
    """
    Returns all pairs of rows `i < j` whose hashes differ in at most `distance` bits.

    Multi-index hashing (Norouzi, Punjani and Fleet, "Fast Exact Search in Hamming Space with
    Multi-Index Hashing", 2014, arXiv 1307.2982, section 3): 256 bits are cut into bands. By the
    pigeonhole principle, two hashes at a distance of at most 31 have one of 16 bands that differs in
    at most one bit, and one of 11 bands that differs in at most two. Only rows with such a band are
    compared. The result is exact. Whichever bands are cheaper for the number of rows are taken.

    Equal hashes are one candidate, so that thousands of copies cost no more than their number: a row
    whose hash an earlier row has is only paired with the first such row.

    Args:
        hashes: 256 bits of each row as four words, `[rows, 4]`.
        distance: Largest number of different bits, 0..31.
        search: What searches the bands; None: threads of this process.

    Returns:
        Three arrays `[pairs]`: `i`, `j` and the different bits, sorted by `i`, then `j`.
    """
    assert 0 <= distance <= MOST, "the bands are exact to distance 31"  # noqa: S101  # a mistake of the caller
    first, of_row = first_rows(hashes)
    is_repeat = np.ones(len(hashes), np.bool_)
    is_repeat[first] = False
    repeats = np.flatnonzero(is_repeat)
    # Of a million rows, a copy takes 32 MB.
    distinct = hashes[first] if len(repeats) else hashes
    low, high, bits = _joined(distinct, np.uint64(0), distance, search or in_threads)
    pairs = np.concatenate(
        [
            np.stack([first[low], first[high], bits]),
            np.stack([first[of_row[repeats]], repeats, np.zeros(len(repeats), np.int64)]),
        ],
        axis=1,
    )
    pairs = pairs[:, np.lexsort((pairs[1], pairs[0]))]
    return pairs[0], pairs[1], pairs[2]


def mirrored_pairs(
    hashes: Hashes, distance: int, search: "BandSearch | None" = None
) -> tuple[Indices, Indices, Indices]:
    """
    Returns all pairs `i < j` where `j` mirrored differs from `i` in at most `distance` bits.

    Like `near_pairs`, it is exact for the mirrored hashes and takes equal hashes for one.
    """
    first, _ = first_rows(hashes)
    distinct = hashes[first] if len(first) < len(hashes) else hashes
    low, high, bits = _joined(distinct, _MIRROR, distance, search or in_threads)
    return first[low], first[high], bits


def mirrored(hashes: Hashes) -> Hashes:
    """
    Returns the hashes `[rows, 4]` of the images mirrored left and right, within a few bits.

    A bit of PDQ tells whether a coefficient of the cosine transform, `[16, 16]`, exceeds their
    median, which is near 0. Mirroring changes the sign of every second column. Of 300 illustrations
    the hash of the mirrored image differs in 6 bits (median) and 24 (most).
    """
    return np.asarray(hashes ^ _MIRROR, np.uint64)


def first_rows(hashes: Hashes) -> tuple[Indices, Indices]:
    """Returns the first row of each different hash, ascending, and for each row its index there."""
    order = np.lexsort(hashes.T)  # stable: of equal hashes, the first row comes first
    is_new = np.ones(len(hashes), np.bool_)
    if len(hashes):
        is_new[1:] = False
        for word in hashes.T:
            ordered = word[order]
            is_new[1:] |= ordered[1:] != ordered[:-1]
    rows = order[is_new]
    by_row = np.argsort(rows)
    rank = np.empty_like(by_row)
    rank[by_row] = np.arange(len(rows))
    index = np.empty_like(order)
    index[order] = rank[np.cumsum(is_new) - 1]
    return rows[by_row], index


@dataclass(frozen=True, slots=True)
class Band:
    """Some bits of all hashes: rows that are near in them are compared, whatever other bands do."""

    start: int
    """First bit."""
    end: int
    most: int
    """Bits that may differ in the band."""
    turn: int
    """Bits of a word that are changed in the second hash of a pair; 0: none."""
    distance: int
    """Bits that may differ in the whole hash."""


BandSearch = Callable[[Hashes, Sequence[Band]], Iterable[Indices]]
"""Returns `codes_of_band` of the words of all rows, `[4, rows]`, for each band, in any order."""


def in_threads(words: Hashes, bands: Sequence[Band]) -> list[Indices]:
    """Searches the bands in threads of this process: numpy lets others run while it computes."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda band: codes_of_band(words, band), bands))


def codes_of_band(words: Hashes, band: Band) -> Indices:
    """
    Returns the near pairs that one band finds, each as the code `i * rows + j` with `i < j`.

    Args:
        words: 256 bits of each row as four words, `[4, rows]`; no two rows are equal.
        band: The bits of the band, and what counts as near.
    """
    count, width, turn = max(1, words.shape[1]), band.end - band.start, np.uint64(band.turn)
    values = _band(words, band.start, width)
    order = np.argsort(values, kind="stable")
    # In the order of their buckets, rows that are compared lie close to each other in memory.
    of_band = words[:, order]
    turned = int(_band(np.full((4, 1), turn), band.start, width)[0])
    flips = [turned ^ flip for flip in _flips(width, band.most)]
    codes = [np.empty(0, np.int64)]
    for left, right in _meetings(values[order], flips, width):
        near, far, _ = _close(of_band, turn, left, right, band.distance)
        near, far = order[near], order[far]
        codes.append(np.minimum(near, far) * count + np.maximum(near, far))
    return distinct(np.concatenate(codes))


def _joined(
    hashes: Hashes, turn: np.uint64, distance: int, search: BandSearch
) -> tuple[Indices, Indices, Indices]:
    """Returns the near pairs `i < j` of different hashes: of row `i`, and row `j` xor `turn`."""
    count = max(1, len(hashes))
    number, most = _cheapest(len(hashes), distance)
    words = np.ascontiguousarray(hashes.T)
    ends = (np.arange(number + 1) * BITS // number).tolist()
    bands = [Band(*span, most, int(turn), distance) for span in pairwise(ends)]
    pairs = distinct(np.concatenate(list(search(words, bands))))
    return _close(words, turn, pairs // count, pairs % count, distance)


def _cheapest(count: int, distance: int) -> tuple[int, int]:
    """Returns the number of bands, and of the bits that may differ in one, that cost least."""
    costs = []
    for most in range(3):
        bands = max(distance // (most + 1) + 1, math.ceil(BITS / _WIDEST))
        width = BITS / bands
        lookups = bands * sum(math.comb(round(width), bits) for bits in range(most + 1))
        costs.append((lookups * (_STEP + count + _COMPARISON * count**2 / 2**width), bands, most))
    _, bands, most = min(costs)
    return bands, most


def _flips(width: int, most: int) -> list[int]:
    """Returns the numbers of `width` bits of which at most `most` are 1."""
    return [
        sum(1 << bit for bit in bits)
        for number in range(most + 1)
        for bits in combinations(range(width), number)
    ]


def _band(words: Hashes, start: int, width: int) -> npt.NDArray[np.int32]:
    """Returns the bits from `start` of each row as a number of `width` bits, `[rows]`."""
    word, shift = divmod(start, 64)
    value = words[word] >> np.uint64(shift)
    if shift + width > 64:
        value = value | words[word + 1] << np.uint64(64 - shift)
    return np.asarray(value & np.uint64((1 << width) - 1), np.int32)


def _close(
    words: Hashes, turn: np.uint64, left: Indices, right: Indices, distance: int
) -> tuple[Indices, Indices, Indices]:
    """Keeps the pairs within `distance`; most pairs exceed it after one or two of the four words."""
    bits = np.zeros(len(left), np.uint8)  # at most 31 of the words before, and 64 of this word
    for word in words:
        bits = bits + np.bitwise_count(word[left] ^ word[right] ^ turn)
        close = np.flatnonzero(bits <= distance)
        left, right, bits = left[close], right[close], bits[close]
    return left, right, bits.astype(np.int64)


def _meetings(
    values: npt.NDArray[np.int32], flips: Sequence[int], width: int
) -> Iterator[tuple[Indices, Indices]]:
    """
    Yields, in arrays, every pair of rows whose values of one band differ by exactly one of `flips`.

    The values are ascending. A bucket holds the rows of one value. Each row is paired with the rows
    of one bucket, and step k yields the k-th pair of every row, so that memory is proportional to the
    number of rows however full a bucket is.
    """
    has_next = np.append(values[1:] == values[:-1], False)  # in its bucket
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    first = np.zeros(1 << width, np.int32)
    first[values[starts]] = starts
    is_held = np.zeros(1 << width, np.bool_)
    is_held[values[starts]] = True
    # Of two values that differ by a flip, the one without its highest bit is looked up. The flips of
    # one highest bit are looked up one after another.
    highest = 0
    for flip in sorted(flips):
        if flip == 0:
            left = np.flatnonzero(has_next)
            right = left + 1
        else:
            if flip.bit_length() != highest:
                highest = flip.bit_length()
                without = np.flatnonzero(values >> (highest - 1) & 1 == 0)
                values_without = values[without].astype(np.int64)
            partners = values_without ^ flip
            # `clip` checks no bounds, which all numbers of `width` bits are in.
            hits = np.flatnonzero(is_held.take(partners, mode="clip"))
            left, right = without[hits], first[partners[hits]]
        while len(left):
            yield left, right
            more = np.flatnonzero(has_next[right])
            left, right = left[more], right[more] + 1
