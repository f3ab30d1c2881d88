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

    Equal hashes are one candidate, so that thousands of copies cost no more than their number: a row
    whose hash an earlier row has is only paired with the first such row.

    Args:
        hashes: 256 bits of each row as four words, `[rows, 4]`.
        distance: Largest number of different bits, 0..31.

    Returns:
        Three arrays `[pairs]`: `i`, `j` and the different bits, sorted by `i`, then `j`.
    """
    assert 0 <= distance < 2 * BANDS, "bands of 16 bits are exact to distance 31"  # noqa: S101  # a mistake of the caller
    first, of_row = first_rows(hashes)
    repeats = np.setdiff1d(np.arange(len(hashes)), first)
    low, high, bits = _joined(hashes[first], None, distance)
    pairs = np.concatenate(
        [
            np.stack([first[low], first[high], bits]),
            np.stack([first[of_row[repeats]], repeats, np.zeros(len(repeats), np.int64)]),
        ],
        axis=1,
    )
    pairs = pairs[:, np.lexsort((pairs[1], pairs[0]))]
    return pairs[0], pairs[1], pairs[2]


def mirrored_pairs(hashes: Hashes, distance: int) -> tuple[Indices, Indices, Indices]:
    """
    Returns all pairs `i < j` where `j` mirrored differs from `i` in at most `distance` bits.

    Like `near_pairs`, it is exact for the mirrored hashes and takes equal hashes for one.
    """
    first, _ = first_rows(hashes)
    low, high, bits = _joined(hashes[first], mirrored(hashes[first]), distance)
    return first[low], first[high], bits


def mirrored(hashes: Hashes) -> Hashes:
    """
    Returns the hashes `[rows, 4]` of the images mirrored left and right, within a few bits.

    A bit of PDQ tells whether a coefficient of the cosine transform, `[16, 16]`, exceeds their
    median, which is near 0. Mirroring changes the sign of every second column. Of 300 illustrations
    the hash of the mirrored image differs in 6 bits (median) and 24 (most).
    """
    return np.asarray(hashes ^ np.frombuffer(b"\x55" * 8, np.uint64), np.uint64)


def first_rows(hashes: Hashes) -> tuple[Indices, Indices]:
    """Returns the first row of each different hash, ascending, and for each row its index there."""
    whole = np.ascontiguousarray(hashes).view([("", np.uint64)] * 4).reshape(-1)
    _, rows, inverse = np.unique(whole, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(rows))
    return np.sort(rows), rank[inverse]


def _joined(
    hashes: Hashes, others: Hashes | None, distance: int
) -> tuple[Indices, Indices, Indices]:
    """Returns the near pairs `i < j` of different hashes: of row `i`, and row `j` of `others`."""
    count = max(1, len(hashes))
    compared = hashes if others is None else others
    bands, other_bands = _bands(hashes), _bands(compared)
    words, other_words = np.ascontiguousarray(hashes.T), np.ascontiguousarray(compared.T)
    codes: list[Indices] = [np.empty(0, np.int64)]
    flips = [0] if distance < BANDS else [0, *(1 << bit for bit in range(16))]
    for band in range(BANDS):
        values = np.ascontiguousarray(bands[:, band])
        if others is None:
            meetings = _meetings(values, flips)
        else:
            meetings = _crossings(values, np.ascontiguousarray(other_bands[:, band]), flips)
        for left, right in meetings:
            near, far, _ = _close(words, other_words, left, right, distance)
            low, high = np.minimum(near, far), np.maximum(near, far)
            codes.append((low * count + high)[low < high])
    pairs = np.unique(np.concatenate(codes))
    return _close(words, other_words, pairs // count, pairs % count, distance)


def _bands(hashes: Hashes) -> npt.NDArray[np.uint16]:
    return np.ascontiguousarray(hashes).view(np.uint16).reshape(len(hashes), BANDS)


def _close(
    words: Hashes, other_words: Hashes, left: Indices, right: Indices, distance: int
) -> tuple[Indices, Indices, Indices]:
    """Keeps the pairs within `distance`; most pairs exceed it after one or two of the four words."""
    bits = np.zeros(len(left), np.int64)
    for word, other in zip(words, other_words, strict=True):
        bits = bits + np.bitwise_count(word[left] ^ other[right])
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


def _crossings(
    values: npt.NDArray[np.uint16], others: npt.NDArray[np.uint16], flips: Sequence[int]
) -> Iterator[tuple[Indices, Indices]]:
    """Yields, in arrays, every pair of a row and a row of `others`, as `_meetings` does."""
    order = np.argsort(values, kind="stable")
    ends = np.concatenate([[0], np.cumsum(np.bincount(values, minlength=1 << 16))])
    for flip in flips:
        right = np.arange(len(others))
        partner = others.astype(np.int64) ^ flip
        low, high = ends[partner], ends[partner + 1]
        while len(right):
            waiting = low < high
            right, low, high = right[waiting], low[waiting], high[waiting]
            yield order[low], right
            low = low + 1
