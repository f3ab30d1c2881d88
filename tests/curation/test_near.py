"""Tests near duplicates: close hashes and like pixels, mirrored ones too, equal ones compared once."""

import numpy as np
from PIL import Image, ImageOps

from curation.image import Pixels, perceptual_hash
from curation.links import Link
from curation.near import near_links
from tests.curation.entries_fixture import draw

DRAWINGS = [draw("amber", seed=seed) for seed in range(6)]


def search(images: list[Image.Image]) -> tuple[list[Link], list[Link], int]:
    """Returns the links of images with ids from 10, those apart, and how many pixels were read."""
    reads = 0

    def thumbnail(post: int) -> Pixels:
        nonlocal reads
        reads += 1
        return np.asarray(images[post - 10].resize((32, 32)))

    packed = b"".join(perceptual_hash(image)[0] for image in images)
    confirmed, apart = near_links(
        np.arange(10, 10 + len(images)),
        np.frombuffer(packed, np.uint64).reshape(-1, 4),
        thumbnail,
        distance=31,
        max_difference=0.3,
    )
    return confirmed, apart, reads


def ends(links: list[Link]) -> set[tuple[int, int, bool | None]]:
    return {(link.post_a, link.post_b, link.mirrored) for link in links}


def test_copies_are_linked_as_they_are_and_mirrored() -> None:
    """A smaller copy and a mirrored copy are linked to their original, and to each other."""
    first, second = DRAWINGS[:2]
    small = first.resize((first.width // 2, first.height // 2))
    confirmed, apart, _ = search([first, second, small, ImageOps.mirror(first)])

    assert {(10, 12, False), (10, 13, True), (12, 13, True)} == ends(confirmed)
    assert [] == apart
    assert all(link.kind == "near" and (link.distance or 0) <= 31 for link in confirmed)


def test_copies_of_a_placeholder_are_one_candidate() -> None:
    """Of 500 equal images each is compared with the first alone, and other images only once."""
    confirmed, apart, reads = search([DRAWINGS[0]] * 500 + [ImageOps.mirror(DRAWINGS[0])])

    assert {(10, post, False) for post in range(11, 510)} | {(10, 510, True)} == ends(confirmed)
    assert [] == apart
    assert 2 * 500 == reads


def test_equal_hashes_with_other_pixels_stay_candidates() -> None:
    """Images of one hash but other pixels are apart, and their own copies are linked to them."""
    hashes = np.zeros((4, 4), np.uint64)
    images = [DRAWINGS[0], DRAWINGS[1], DRAWINGS[0], DRAWINGS[1]]
    confirmed, apart = near_links(
        np.arange(10, 14),
        hashes,
        lambda post: np.asarray(images[post - 10].resize((32, 32))),
        distance=31,
        max_difference=0.3,
    )

    assert {(10, 12, False), (11, 13, False)} == ends(confirmed)
    assert {(10, 11, False), (10, 13, False)} == ends(apart)


def test_later_posts_change_no_link() -> None:
    """The links of the first posts are the same, whatever posts follow."""
    images = [DRAWINGS[number % 3] for number in range(9)] + [ImageOps.mirror(DRAWINGS[0])]
    whole = ends(search(images)[0])

    for number in range(1, 10):
        first = ends(search(images[:number])[0])
        assert first == {link for link in whole if link[1] < 10 + number}
