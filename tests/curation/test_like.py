"""Tests the closest pairs of different splits by their edges against a comparison of all pairs."""

import numpy as np

from curation.edges import described, mirrored
from curation.like import MOST, like_pairs


def test_closest_pairs_equal_a_slow_search() -> None:
    """The pairs are the 20 closest of different splits, plain and mirrored, closest first."""
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (40, 32, 32, 3), np.uint8)
    images[7] = images[3]
    images[9] = images[4][:, ::-1]
    splits = ["train", "val", "test"] * 13 + ["train"]
    posts = list(range(100, 140))
    plain, turned = described(images), described(mirrored(images))
    slow = sorted(
        (float(1 - plain[i] @ others[j]), posts[i], posts[j], others is turned)
        for others in (plain, turned)
        for i in range(40)
        for j in range(i + 1, 40)
        if splits[i] != splits[j]
    )[:MOST]
    pairs = like_pairs("label", posts, splits, images)

    assert [entry[1:] for entry in slow] == [
        (pair.post_a, pair.post_b, pair.mirrored) for pair in pairs
    ]
    assert np.allclose([entry[0] for entry in slow], [pair.difference for pair in pairs], atol=1e-5)
    assert [(103, 107, False), (104, 109, True)] == sorted(entry[1:] for entry in slow[:2])


def test_one_split_has_no_pairs() -> None:
    """Posts of one split, or a single post, give no pair."""
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)

    assert [] == like_pairs("label", [1, 2, 3], ["train"] * 3, images)
    assert [] == like_pairs("label", [1], ["train"], images[:1])
