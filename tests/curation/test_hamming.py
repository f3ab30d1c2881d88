"""Tests the banded search for near pairs against a comparison of all pairs."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageOps

from curation.hamming import first_rows, mirrored, mirrored_pairs, near_pairs
from curation.image import perceptual_hash
from tests.curation.entries_fixture import draw


def all_with_all(
    hashes: np.ndarray, distance: int, others: np.ndarray | None = None
) -> list[tuple[int, int, int]]:
    """Compares row `i` with every row `j > i` of `others`; a repeated hash only with its first row."""
    compared = hashes if others is None else others
    first_of: dict[bytes, int] = {}
    for row, value in enumerate(hashes):
        first_of.setdefault(value.tobytes(), row)
    pairs = []
    for first in sorted(first_of.values()):
        for second in range(first + 1, len(hashes)):
            own = first_of[hashes[second].tobytes()]
            bits = int(np.bitwise_count(hashes[first] ^ compared[second]).sum())
            repeats = others is None and own == first
            if bits <= distance and (own == second or repeats):
                pairs.append((first, second, bits))
    return pairs


def grown(seed: int, families: int, members: int, most: int) -> np.ndarray:
    """Returns random hashes, each with copies in which at most `most` bits are flipped."""
    chance = np.random.default_rng(seed)
    rows = []
    for _ in range(families):
        parent = chance.integers(0, 2, 256, dtype=np.uint8)
        for _ in range(members):
            child = parent.copy()
            child[chance.choice(256, chance.integers(0, most + 1), replace=False)] ^= 1
            rows.append(np.packbits(child))
    return np.array(rows).view(np.uint64).reshape(-1, 4)


@given(
    seed=st.integers(0, 10_000),
    families=st.integers(1, 6),
    members=st.integers(1, 7),
    most=st.integers(0, 24),
    distance=st.integers(0, 31),
)
def test_finds_what_comparing_all_finds(
    seed: int, families: int, members: int, most: int, distance: int
) -> None:
    """For every allowed distance, pairs and distances equal those of the slow reference."""
    hashes = grown(seed, families, members, most)
    pairs = near_pairs(hashes, distance)

    assert all_with_all(hashes, distance) == list(zip(*(x.tolist() for x in pairs), strict=True))


@given(
    seed=st.integers(0, 10_000),
    families=st.integers(1, 6),
    members=st.integers(1, 7),
    most=st.integers(0, 24),
    distance=st.integers(0, 31),
)
def test_finds_mirrored_pairs_as_comparing_all_does(
    seed: int, families: int, members: int, most: int, distance: int
) -> None:
    """Half of the hashes are mirrored; the pairs equal those of the slow reference."""
    hashes = grown(seed, families, members, most)
    hashes[::2] = mirrored(hashes[::2])
    pairs = mirrored_pairs(hashes, distance)

    assert all_with_all(hashes, distance, mirrored(hashes)) == list(
        zip(*(x.tolist() for x in pairs), strict=True)
    )


def test_mirrored_hash_is_near_the_hash_of_the_mirrored_image() -> None:
    """The hash changes with the image: mirroring one or the other gives nearly the same bits."""
    drawings = [draw("amber", seed=seed) for seed in range(30)]
    of_image, of_mirrored = (
        np.frombuffer(b"".join(perceptual_hash(edit(image))[0] for image in drawings), np.uint64)
        for edit in (lambda image: image, ImageOps.mirror)
    )
    apart = np.bitwise_count(mirrored(of_image.reshape(-1, 4)) ^ of_mirrored.reshape(-1, 4))

    assert apart.sum(axis=1).max() <= 31
    assert np.median(apart.sum(axis=1)) <= 10
    assert np.array_equal(of_image, mirrored(mirrored(of_image.reshape(-1, 4))).ravel())


def test_equal_hashes_are_one_candidate() -> None:
    """Of 20,000 equal hashes each is paired with the first alone, in a few megabytes."""
    hashes = np.random.default_rng(0).integers(0, 1 << 64, (20_100, 4), dtype=np.uint64)
    hashes[100:] = hashes[50]
    tracemalloc.start()
    first, second, bits = near_pairs(hashes, 31)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert [50] * 20_000 == first.tolist()
    assert list(range(100, 20_100)) == second.tolist()
    assert not bits.any()
    assert peak < 32 << 20


@pytest.mark.parametrize("distance", [15, 31])
def test_exact_where_bits_are_spread_worst(distance: int) -> None:
    """Flips spread evenly over the bands, the hardest case, are detected up to the last bit."""
    zero = np.zeros(256, np.uint8)
    spread = zero.copy()
    places = [16 * band + turn for turn in (3, 9) for band in range(16)]
    spread[places[:distance]] = 1
    over = zero.copy()
    over[places[: distance + 1]] = 1
    rows = np.packbits(np.stack([zero, spread, over]), axis=1).view(np.uint64)
    first, second, bits = near_pairs(rows, distance)

    assert [(0, 1, distance), (1, 2, 1)] == list(
        zip(first.tolist(), second.tolist(), bits.tolist(), strict=True)
    )


def test_few_rows_have_no_pairs() -> None:
    """No rows and one row give no pairs."""
    for rows in (0, 1):
        assert [[], [], []] == [x.tolist() for x in near_pairs(np.zeros((rows, 4), np.uint64), 31)]


def test_takes_a_tenth_of_comparing_all() -> None:
    """Among 50,000 hashes the search takes at most a tenth of the time of a full scan."""
    hashes = np.random.default_rng(1).integers(0, 1 << 64, (50_000, 4), dtype=np.uint64)
    started = time.process_time()
    near_pairs(hashes, 15)
    searched = time.process_time() - started
    started = time.process_time()
    for row in hashes[:500]:
        (np.bitwise_count(hashes ^ row).sum(axis=1) <= 15).nonzero()
    scanned = (time.process_time() - started) * len(hashes) / 500 / 2

    assert searched <= scanned / 10


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 4), max_size=30))
def test_first_rows_are_those_of_each_hash(words) -> None:
    """Each hash has its first row, ascending; each row has the index of its hash there."""
    hashes = np.array(words, np.uint64).reshape(-1, 4)
    rows, index = first_rows(hashes)

    assert sorted(words.index(value) for value in set(words)) == rows.tolist()
    assert [words.index(value) for value in words] == rows[index].tolist()
