"""Pairs of near 256-bit hashes, by multi-index hashing in numpy instead of comparing all pairs."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]  # [rows, 4]: 256 bits each
Indices = npt.NDArray[np.int64]

BANDS = 16  # of 16 bits each


def near_pairs(hashes: Hashes, distance: int) -> tuple[Indices, Indices, Indices]:
    """
    Returns all pairs of rows `i < j` whose hashes differ in at most `distance` bits.

    Multi-index hashing (Norouzi, Punjani and Fleet, "Fast Exact Search in Hamming Space with
    Multi-Index Hashing", 2014, arXiv 1307.2982, section 3): 256 bits are 16 bands of 16 bits. By the
    pigeonhole principle, two hashes at a distance of at most 15 share a band, and two at a distance
    of at most 31 have a band that differs in at most one bit. Only rows that share a bucket are
    compared. The result is exact.

    Args:
        hashes: 256 bits of each row as four words, `[rows, 4]`.
        distance: Largest number of different bits, 0..31.

    Returns:
        Three arrays `[pairs]`: `i`, `j` and the different bits, sorted by `i`, then `j`.
    """
    assert 0 <= distance < 2 * BANDS, "bands of 16 bits are exact to distance 31"  # noqa: S101  # a mistake of the caller
    bands = np.ascontiguousarray(hashes).view(np.uint16).reshape(len(hashes), BANDS)
    words = np.ascontiguousarray(hashes.T)
    codes: list[Indices] = [np.empty(0, np.int64)]
    flips = [0] if distance < BANDS else [0, *(1 << bit for bit in range(16))]
    for band in range(BANDS):
        values = np.ascontiguousarray(bands[:, band])
        for left, right in _meetings(values, flips):
            near, far, _ = _close(words, left, right, distance)
            codes.append(np.minimum(near, far) * len(hashes) + np.maximum(near, far))
    pairs = np.unique(np.concatenate(codes))
    return _close(words, pairs // max(1, len(hashes)), pairs % max(1, len(hashes)), distance)


def _close(
    words: Hashes, left: Indices, right: Indices, distance: int
) -> tuple[Indices, Indices, Indices]:
    """Keeps the pairs within `distance`; most pairs exceed it after one or two of the four words."""
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

    A bucket holds the rows of one value. Each row is paired with the rows of one bucket, and step k
    yields the k-th pair of every row, so that memory is proportional to the number of rows however
    full a bucket is.
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
