"""Tests the keypoints of an image: mirrored without a second search, equal on every run."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from curation import keypoints
from curation.keypoints import KEYPOINTS, TABLES, Keypoints, keypoints_of, words_of
from tests.curation.entries_fixture import draw


@pytest.fixture(scope="module")
def described() -> Keypoints:
    """Returns the keypoints of a drawing."""
    return keypoints_of(draw("amber", seed=1))


def test_mirrored_keypoints_are_those_of_the_mirrored_image(described) -> None:
    """Reordered descriptors equal those of the mirrored image, and so do positions and angles."""
    image = draw("amber", seed=1)
    searched, computed = keypoints_of(ImageOps.mirror(image)), described.mirrored()
    width = image.width * min(1, keypoints.SIDE / max(image.size))
    apart = computed.descriptors[:, None].astype(int) - searched.descriptors[None]
    distance = np.sqrt((apart**2).sum(axis=2))
    nearest = distance.argmin(axis=1)
    is_same = distance.min(axis=1) < 60  # the length of a descriptor is 512
    moved = searched.places[nearest[is_same]] - computed.places[is_same]

    assert is_same.mean() > 0.6
    assert np.median(np.abs(moved[:, 0] - width)) < 1.5
    assert np.median(np.abs(moved[:, 1])) < 0.5
    assert np.median(np.abs((moved[:, 3] + 180) % 360 - 180)) < 1


def test_mirroring_twice_changes_nothing(described) -> None:
    """Positions, descriptors and words of the twice mirrored image are those of the image."""
    twice = described.mirrored().mirrored()

    assert np.array_equal(described.descriptors, twice.descriptors)
    assert np.allclose(described.places, twice.places, atol=1e-3)


def test_equal_descriptors_have_equal_words(described) -> None:
    """Words depend on the descriptor alone, and near descriptors share more words than others."""
    words = words_of(described.descriptors)
    noise = np.random.default_rng(0).integers(-6, 7, described.descriptors.shape)
    near = words_of((described.descriptors + noise).clip(0, 255).astype(np.uint8))

    assert (TABLES, len(described)) == words.shape
    assert np.array_equal(words[:, ::2], words_of(described.descriptors[::2]))
    assert (words == near).any(axis=0).mean() > 0.8
    assert (words == np.roll(words, 1, axis=1)).any(axis=0).mean() < 0.2


def test_image_without_structure_has_no_keypoints() -> None:
    """A plain image has none, whatever its size; a busy one has no more than the limit."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (192, 192), np.uint8), "L")

    assert 0 == len(keypoints_of(Image.new("RGB", (200, 100), "white")))
    assert 0 == len(keypoints_of(Image.new("RGB", (1, 1), "white")).mirrored())
    assert 100 < len(keypoints_of(noise.convert("RGB"))) <= 2 * KEYPOINTS


def test_large_images_are_compared_at_one_size(described) -> None:
    """An enlarged drawing has keypoints at the positions of the rendering, not of the file."""
    image = draw("amber", seed=1)
    large = keypoints_of(image.resize((image.width * 5, image.height * 5)))

    assert large.places[:, :2].max() <= keypoints.SIDE
    assert len(large) > 20
