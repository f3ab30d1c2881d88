"""Tests the measures of the pixels of one image, and the difference between two images."""

import numpy as np
from PIL import Image

from curation import image as images
from personae import squares


def test_counts_white_on_the_border() -> None:
    """The border is 1 pixel wide, or 2 % in a large image; 245 counts as white and 244 does not."""
    small = Image.new("RGB", (20, 20), (245, 245, 245))
    small.paste((0, 0, 0), (1, 1, 19, 19))
    large = Image.new("RGB", (200, 100), (244, 255, 255))
    large.paste((255, 255, 255), (0, 0, 200, 2))

    assert 1.0 == images.border_white(small)
    assert 400 / (2 * 200 * 2 + 2 * 96 * 2) == images.border_white(large)


def test_measures_the_coloured_part() -> None:
    """Saturation is measured on the most coloured twentieth of the pixels that are not paper."""
    image = Image.new("RGB", (100, 100), "white")
    paper = images.saturation(image)
    image.paste((120, 120, 120), (40, 40, 50, 60))
    grey = images.saturation(image)
    image.paste((200, 100, 100), (40, 40, 43, 44))

    assert (0.0, 0.0, 0.5) == (paper, grey, images.saturation(image))


def test_tells_sharp_from_blurred(drawing: Image.Image) -> None:
    """A blurred copy has a fraction of the sharpness; a blank image has none."""
    blurred = drawing.resize((12, 8)).resize(drawing.size, Image.Resampling.BICUBIC)
    sharp = images.measure(drawing).sharpness

    assert images.measure(blurred).sharpness < sharp / 4
    assert 0.0 == images.measure(Image.new("RGB", (50, 50))).sharpness


def small(image: Image.Image) -> images.Pixels:
    square = squares.normalise(image, side=96, background="border")
    return images.thumbnail(images.encode(square, "png"), shape=image.size, side=32)


def test_compares_strokes_not_paper(drawing: Image.Image) -> None:
    """A brighter copy has no difference; other strokes on the same paper have one."""
    other = drawing.transpose(Image.Transpose.ROTATE_180)
    brighter = drawing.point([min(255, 20 + value * 9 // 10) for value in range(256)] * 3)

    assert images.difference(small(drawing), small(brighter)) < 0.01
    assert images.difference(small(drawing), small(other)) > 0.5
    assert 0.0 == images.difference(small(drawing), small(drawing))


def test_compares_without_the_margin(drawing: Image.Image) -> None:
    """A copy squeezed to another shape counts as the same image; its margins have no effect."""
    assert images.difference(small(drawing), small(drawing.resize((60, 90)))) < 0.03


def test_compares_blank_images() -> None:
    """Two blank images are the same only if their colours are equal."""
    white, black = np.full((8, 8, 3), 255, np.uint8), np.zeros((8, 8, 3), np.uint8)

    assert 0.0 == images.difference(white, white.copy())
    assert 1.0 == images.difference(white, black)
