"""Tests histograms of edge directions: copies are near in any hue, other drawings are far."""

import numpy as np
from PIL import Image, ImageOps

from curation import edges
from curation.edges import described
from tests.curation.entries_fixture import draw


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((edges.SIDE, edges.SIDE)))


def difference(first: Image.Image, second: Image.Image) -> float:
    one, other = described(np.stack([pixels(first), pixels(second)]))
    return float(1 - one @ other)


def test_copies_are_near_and_other_drawings_far() -> None:
    """Size, hue and the ground's brightness change little; another drawing or mirroring much."""
    image = draw("amber", seed=1)
    red, green, blue = image.split()

    assert difference(image, image) < 1e-5
    assert difference(image, image.resize((90, 90))) < 0.05
    assert difference(image, Image.merge("RGB", (blue, red, green))) < 0.07
    assert difference(image, ImageOps.invert(image)) < 0.05
    assert difference(image, draw("amber", seed=2)) > 0.4
    assert difference(image, ImageOps.mirror(image)) > 0.4


def test_mirrored_pixels_are_those_of_the_mirrored_image() -> None:
    """The descriptor of mirrored pixels is that of the mirrored image."""
    image = draw("amber", seed=1).resize((edges.SIDE, edges.SIDE))
    both = np.stack([np.asarray(image), np.asarray(ImageOps.mirror(image))])

    assert np.allclose(described(edges.mirrored(both)), described(both)[::-1])


def test_images_without_edges_are_far_from_all() -> None:
    """Two plain images have nothing in common that could be compared; no images give no rows."""
    plain = np.full((2, edges.SIDE, edges.SIDE, 3), 200, np.uint8)

    assert not described(plain).any()
    assert (0, 512) == described(edges.stacked([])).shape
    assert np.array_equal(plain, edges.stacked(list(plain)))
