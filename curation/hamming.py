"""Pairs of near 256-bit hashes without comparing all with all: multi-index hashing in numpy."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]  # [rows, 4]: 256 bits each
Indices = npt.NDArray[np.int64]

BANDS = 16  # of 16 bits each


def near_pairs(hashes: Hashes, distance: int) -> tuple[Indices, Indices, Indices]:
    """
    Returns all pairs of rows `i < j` whose hashes differ in at most `distance` bits, and how many.

    Multi-index hashing (Norouzi et al., arXiv 1307.2982): 256 bits are 16 bands of 16 bits. Up to
    distance 15 some band is equal, up to 31 some band differs in one bit at most (pigeonhole), so
    only rows that meet in a bucket are compared. Exact for every distance allowed; the pairs are
    sorted by `i`, then `j`.
    """
    assert 0 <= distance < 2 * BANDS, "bands of 16 bits are exact to distance 31"  # noqa: S101 - ours
    bands = np.ascontiguousarray(hashes).view(np.uint16).reshape(len(hashes), BANDS)
    words = np.ascontiguousarray(hashes.T)
    found: list[Indices] = [np.empty(0, np.int64)]
    flips = [0] if distance < BANDS else [0, *(1 << bit for bit in range(16))]
    for band in range(BANDS):
        values = np.ascontiguousarray(bands[:, band])
        for left, right in _meetings(values, flips):
            one, two, _ = _close(words, left, right, distance)
            found.append(np.minimum(one, two) * len(hashes) + np.maximum(one, two))
    codes = np.unique(np.concatenate(found))
    return _close(words, codes // max(1, len(hashes)), codes % max(1, len(hashes)), distance)


def _close(
    words: Hashes, left: Indices, right: Indices, distance: int
) -> tuple[Indices, Indices, Indices]:
    """Keeps the pairs within `distance`; most are over it after one or two of the four words."""
    bits = np.zeros(len(left), np.int64)
    for word in words:
        bits = bits + np.bitwise_count(word[left] ^ word[right])
        close = bits <= distance
        left, right, bits = left[close], right[close], bits[close]
    return left, right, bits


def _meetings(
    values: npt.NDArray[np.uint16], flips: Sequence[int]
) -> Iterator[tuple[Indices, Indices]]:
    """
    Yields, in arrays, every pair of rows whose values of one band differ by exactly one of `flips`.

    Rows lie in buckets by value: a row meets a run of others, and step k yields the k-th of every
    run, so that memory stays in proportion to the rows however full a bucket is.
    """
    order = np.argsort(values, kind="stable")
    ends = np.cumsum(np.bincount(values, minlength=1 << 16))
    for flip in flips:
        if flip == 0:
            left = order
            low = np.arange(1, len(order) + 1)
            high = ends[values[order]]
        else:
            left = order[values[order] & flip == 0]
            partner = values[left].astype(np.int64) | flip
            low, high = ends[partner - 1], ends[partner]
        while len(left):
            waiting = low < high
            left, low, high = left[waiting], low[waiting], high[waiting]
            yield left, order[low]
            low = low + 1
