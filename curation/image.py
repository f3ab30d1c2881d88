"""
Measuring and encoding of one image, which `personae.squares` decodes and normalises.

The same bytes and the same library versions give the same numbers and bytes.
"""

import io
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pdqhash
from PIL import Image

from curation.params.measure import Format
from personae.squares import (
    FORMATS,
    DecodedImage,
    border,
    decode,
    fitted,
    normalise,
    placed,
)

__all__ = ["DecodedImage", "ImageMeasures", "border", "decode", "encode", "measure", "normalise"]

Pixels = npt.NDArray[np.uint8]

HASH_SIDE = 64  # PDQ hashes a grid of this side: without a second resize, resized copies agree
SMALL_SIDE = 64  # side of the rendering for saturation, sharpness and contrast
WHITE = 245  # least channel value that counts as white: JPEG noise on white stays above it


class ImageMeasures(NamedTuple):
    """The measures of one decoded image."""

    phash: bytes  # 256 bits of PDQ
    phash_quality: int  # 0..100, by PDQ; with few edges it is low and the hash unreliable
    border_white: float  # share of the border, 0..1
    saturation: float  # 0..1
    sharpness: float  # variance of the Laplacian, squared grey levels
    contrast: float  # standard deviation of grey, 0..0.5


def measure(image: Image.Image, *, edge: Pixels | None = None) -> ImageMeasures:
    """Returns the measures of a decoded image; `edge` is its border, if the caller has it."""
    square = _rendered(image, (HASH_SIDE, HASH_SIDE))
    phash, quality = _hash(square)
    size = fitted(image.size, SMALL_SIDE)
    small = square if size == square.size else _rendered(image, size)
    grey = _grey(small)
    return ImageMeasures(
        phash=phash,
        phash_quality=quality,
        border_white=white_share(border(image) if edge is None else edge),
        saturation=saturation(small),
        sharpness=_sharpness(grey),
        contrast=float(grey.astype(np.float64).std() / 255),
    )


def encode(image: Image.Image, kind: Format, *, quality: int = 95) -> bytes:
    """Encodes an RGB image without metadata; png and webp are lossless, `quality` is for jpg."""
    buffer = io.BytesIO()
    if kind == "png":
        image.save(buffer, "PNG", compress_level=6)
    elif kind == "webp":
        image.save(buffer, "WEBP", lossless=True, quality=50, method=4)
    else:
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def white_share(pixels: Pixels) -> float:
    """Returns the share of pixels `[n, 3]`, 0..1, in which every channel is at least 245."""
    return int(np.count_nonzero(_lowest(pixels) >= WHITE)) / len(pixels)


def saturation(image: Image.Image) -> float:
    """
    Returns the 95th percentile of HSV saturation over the pixels that are not white, 0..1.

    Saturation is (max - min) / max over the channels. White is left out, because a small coloured
    figure on white is a coloured image. An image of white pixels alone gives 0.
    """
    pixels = np.asarray(image).reshape(-1, 3)
    low = _lowest(pixels)
    is_drawn = low < WHITE
    low = low[is_drawn]
    if not len(low):
        return 0.0
    high = np.maximum(np.maximum(pixels[:, 0], pixels[:, 1]), pixels[:, 2])[is_drawn]
    # 32 bits tell all fractions of numbers up to 255 apart, and halve the time.
    shares = np.divide(high - low, np.maximum(high, 1), dtype=np.float32)
    rank = math.ceil(0.95 * len(shares)) - 1
    chosen = np.argpartition(shares, rank)[rank]
    return int(high[chosen] - low[chosen]) / max(int(high[chosen]), 1)


def perceptual_hash(image: Image.Image) -> tuple[bytes, int]:
    """
    Returns the PDQ hash (32 bytes) of a 64-pixel rendering, and its quality (0..100).

    PDQ (Facebook, "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", 2019)
    averages each image to 64 × 64 before its cosine transform. A rendering of that size makes the
    hash cheap and nearly independent of the size of the fetched image: of 600 illustrations, 99.8 %
    of the copies at half size have a distance of at most 10; with a 128-pixel rendering, 94.5 %.
    """
    return _hash(_rendered(image, (HASH_SIDE, HASH_SIDE)))


def thumbnail(data: bytes, *, shape: tuple[int, int], side: int) -> Pixels:
    """
    Returns a normalised and encoded image as pixels `[side, side, 3]`, to compare with others.

    `shape` is width and height of the image before it was normalised. The margin is cut off and the
    rest stretched to a square, as for the perceptual hash, so that margins do not count as agreement.
    """
    with Image.open(io.BytesIO(data), formats=list(FORMATS)) as opened:
        content = opened.convert("RGB").crop(placed(shape, opened.width))
        return np.asarray(content.resize((side, side), Image.Resampling.BILINEAR))


def _rendered(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR)


def _hash(square: Image.Image) -> tuple[bytes, int]:
    bits, quality = pdqhash.compute(np.asarray(square))
    return np.packbits(bits).tobytes(), int(quality)


def _grey(image: Image.Image) -> npt.NDArray[np.int16]:
    """Returns the grey levels `[height, width]`, in the smallest type that holds their differences."""
    levels = np.frombuffer(image.convert("L").tobytes(), np.uint8)
    return levels.reshape(image.height, image.width).astype(np.int16)


def _lowest(pixels: Pixels) -> Pixels:
    """Returns the least channel of each pixel, `[n]`; faster than `min` over an axis of three."""
    return np.minimum(np.minimum(pixels[:, 0], pixels[:, 1]), pixels[:, 2])


def _sharpness(grey: npt.NDArray[np.int16]) -> float:
    """Returns the variance of the 4-neighbour Laplacian of a grey rendering, without its border."""
    if min(grey.shape) < 3:
        return 0.0
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * middle).astype(np.float64).var())
