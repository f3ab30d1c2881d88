"""Tests the comparison of pixels: strokes count, colours and paper do not, and images may be moved."""

import colorsys

import numpy as np
import pytest
from PIL import Image, ImageOps

from curation import image as images
from curation import pixels
from personae import squares


def small(image: Image.Image) -> images.Pixels:
    square = squares.normalise(image, side=96, background="border")
    return images.thumbnail(images.encode(square, "png"), shape=image.size, side=32)


def test_compares_strokes_not_paper(drawing: Image.Image) -> None:
    """A brighter copy has no difference; other strokes on the same paper have one."""
    other = drawing.transpose(Image.Transpose.ROTATE_180)
    brighter = drawing.point([min(255, 20 + value * 9 // 10) for value in range(256)] * 3)

    assert pixels.difference(small(drawing), small(brighter)) < 0.01
    assert pixels.difference(small(drawing), small(other)) > 0.5
    assert 0.0 == pixels.difference(small(drawing), small(drawing))


def test_compares_without_the_margin(drawing: Image.Image) -> None:
    """A copy squeezed to another shape counts as the same image; its margins have no effect."""
    assert pixels.difference(small(drawing), small(drawing.resize((60, 90)))) < 0.03


def test_compares_blank_images() -> None:
    """Two blank images are the same only if their colours are equal."""
    white, black = np.full((8, 8, 3), 255, np.uint8), np.zeros((8, 8, 3), np.uint8)

    assert 0.0 == pixels.difference(white, white.copy())
    assert 1.0 == pixels.difference(white, black)


@pytest.mark.parametrize("turn", [0.11, 0.25, 0.5])
def test_hue_has_no_effect(drawing: Image.Image, turn) -> None:
    """A copy with every hue turned has the same edges."""
    turned = [
        tuple(round(255 * part) for part in _turned([value / 255 for value in colour], turn))
        for colour in np.asarray(drawing).reshape(-1, 3).tolist()
    ]
    copy = Image.new("RGB", drawing.size)
    copy.putdata(turned)

    assert pixels.difference(small(drawing), small(copy)) < 0.1


def _turned(colour: list[float], turn: float) -> tuple[float, float, float]:
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    return colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)


def test_moved_image_is_compared_where_it_covers(drawing: Image.Image) -> None:
    """A crop laid over the whole image has no difference, and covers its share of it."""
    whole, part = np.asarray(drawing), np.asarray(drawing.crop((10, 20, 110, 80)))
    matrix = np.array([[1.0, 0, 10], [0, 1, 20]])
    difference, overlap = pixels.moved_difference(whole, part, matrix)
    wrong, _ = pixels.moved_difference(whole, part, np.array([[1.0, 0, 0], [0, 1, 0]]))

    assert difference < 0.001
    assert pytest.approx(100 * 60 / (120 * 80)) == overlap
    assert wrong > 0.3


def test_images_that_do_not_meet_have_nothing_in_common(drawing: Image.Image) -> None:
    """An image that is moved beside the other one covers nothing."""
    whole = np.asarray(drawing)

    assert (2.0, 0.0) == pixels.moved_difference(whole, whole, np.array([[1.0, 0, 500], [0, 1, 0]]))
    assert 0.5 < pixels.difference(whole, np.asarray(ImageOps.flip(drawing)))
