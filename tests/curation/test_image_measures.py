"""Tests the measures of the pixels of one image."""

from PIL import Image

from curation import image as images


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
