"""Tests the measures of the pixels of one image."""

import math

import numpy as np
import pdqhash
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curation import image as images
from personae import squares


def test_counts_white_on_the_border() -> None:
    """The border is 1 pixel wide, or 2 % in a large image; 245 counts as white and 244 does not."""
    small = Image.new("RGB", (20, 20), (245, 245, 245))
    small.paste((0, 0, 0), (1, 1, 19, 19))
    large = Image.new("RGB", (200, 100), (244, 255, 255))
    large.paste((255, 255, 255), (0, 0, 200, 2))

    assert 1.0 == images.white_share(images.border(small))
    assert 400 / (2 * 200 * 2 + 2 * 96 * 2) == images.white_share(images.border(large))


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


@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    levels=st.sampled_from([2, 16, 256]),
    seed=st.integers(0, 9),
)
def test_measures_are_those_of_their_definition(
    width: int, height: int, levels: int, seed: int
) -> None:
    """Every measure has the value, to the bit, of its definition in 64-bit numbers."""
    chance = np.random.default_rng(seed)
    pixels = chance.integers(0, levels, (height, width, 3)) * (255 // (levels - 1))
    image = Image.fromarray(pixels.astype(np.uint8))
    depth = max(1, round(0.02 * min(width, height)))
    inside = np.zeros((height, width), np.bool_)
    inside[depth : height - depth, depth : width - depth] = True
    edge = pixels[~inside] if 2 * depth < min(width, height) else pixels.reshape(-1, 3)
    bilinear = Image.Resampling.BILINEAR
    small = image.resize(squares.fitted(image.size, 64), bilinear)
    colours = np.asarray(small).reshape(-1, 3).astype(np.float64)
    drawn = colours[colours.min(axis=1) < 245]
    shares = np.sort((drawn.max(axis=1) - drawn.min(axis=1)) / np.maximum(drawn.max(axis=1), 1))
    grey = np.asarray(small.convert("L"), np.float64)
    inner = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    bits, quality = pdqhash.compute(np.asarray(image.resize((64, 64), bilinear)))

    assert images.measure(image) == images.ImageMeasures(
        phash=np.packbits(bits).tobytes(),
        phash_quality=quality,
        border_white=float((edge.min(axis=1) >= 245).mean()),
        saturation=float(shares[math.ceil(0.95 * len(shares)) - 1]) if len(shares) else 0.0,
        sharpness=float((inner - 4 * grey[1:-1, 1:-1]).var()) if min(grey.shape) > 2 else 0.0,
        contrast=float(grey.std() / 255),
    )
    assert sorted(map(tuple, edge.tolist())) == sorted(map(tuple, squares.border(image).tolist()))
    square = squares.normalise(image, side=32, background="border")
    left, top, _, _ = squares.placed(image.size, 32)
    if left or top:
        assert tuple(map(round, edge.mean(axis=0))) == square.getpixel((0, 0))
