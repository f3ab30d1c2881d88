"""
Decoding, measuring, normalising and encoding of one image.

`decode` turns bytes from the internet into an upright sRGB image, or raises `UnreadableImage` with a
reason code. `measure` takes that image; `normalise` and `encode` make the square image of the
shards. The same bytes and the same library versions give the same numbers and bytes.
"""

import functools
import io
import math
import re
import struct
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pdqhash
from PIL import Image, ImageCms

from curation import container
from curation.errors import UnreadableImage
from curation.params.measure import Background, Format

Pixels = npt.NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP")  # the still images that boards serve
MAX_PROFILE_BYTES = 1 << 20  # colour profiles of screens are a few kilobytes, of presses under 1 MB
DECODED_SIDE = 256  # least long side of a decoded JPEG file, pixels, if the file is as large
HASH_SIDE = 64  # PDQ hashes a grid of this side: without a second resize, resized copies agree
SMALL_SIDE = 64  # side of the rendering for saturation, sharpness and contrast
WHITE = 245  # least channel value that counts as white: JPEG noise on white stays above it


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """One decoded image: `image` is upright RGB, transparent pixels on white, perhaps scaled down."""

    image: Image.Image
    file_format: str  # JPEG, PNG or WEBP
    mode: str  # of the stored image, as Pillow names it
    width: int  # pixels of the stored image, after it is turned upright
    height: int


@dataclass(frozen=True, slots=True)
class ImageMeasures:
    """The measures of one decoded image."""

    phash: bytes  # 256 bits of PDQ
    phash_quality: int  # 0..100, by PDQ; with few edges it is low and the hash unreliable
    border_white: float  # share of the border, 0..1
    saturation: float  # 0..1
    sharpness: float  # variance of the Laplacian, squared grey levels
    contrast: float  # standard deviation of grey, 0..0.5


def decode(data: bytes, *, max_pixels: int, side: int) -> DecodedImage:
    """
    Decodes the bytes of one still image that will be normalised to `side` pixels.

    A JPEG file is scaled by the DCT to the smallest size whose long side is at least
    max(256, 2 × side). The orientation of EXIF is applied. Colours are converted to sRGB if the
    embedded colour profile can be read. 16-bit channels lose their low byte.

    Raises:
        UnreadableImage: `reason` is undecodable, truncated, too_many_pixels or animated_file.
    """
    kind = container.format_of(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, which is not used
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=[kind]) as opened:
                return _load(opened, kind, max_pixels=max_pixels, side=side)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise UnreadableImage(
                "too_many_pixels", str(error), measured=_pixels(error), threshold=max_pixels
            ) from error
        except MemoryError as error:
            raise UnreadableImage(
                "too_many_pixels", "no memory to decode it", threshold=max_pixels
            ) from error
        except (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError) as error:
            # The errors of Pillow's readers on damaged files, as the fuzzing of Pillow lists them.
            raise UnreadableImage(_reason(error), f"{type(error).__name__}: {error}") from error
        except (ArithmeticError, AttributeError, struct.error, zlib.error) as error:
            raise UnreadableImage("undecodable", f"{type(error).__name__}: {error}") from error


def measure(image: Image.Image) -> ImageMeasures:
    """Returns the measures of a decoded image."""
    phash, quality = perceptual_hash(image)
    small = image.resize(_fitted(image.size, SMALL_SIDE), Image.Resampling.BILINEAR)
    grey = np.asarray(small.convert("L"), dtype=np.float64)
    return ImageMeasures(
        phash=phash,
        phash_quality=quality,
        border_white=border_white(image),
        saturation=saturation(small),
        sharpness=_sharpness(grey),
        contrast=float(grey.std() / 255),
    )


def normalise(image: Image.Image, *, side: int, background: Background) -> Image.Image:
    """
    Fits an image into the centre of a square of `side` pixels; its aspect ratio is kept.

    The margin has the mean colour of the border of the image, or is white.
    """
    left, top, right, bottom = _placed(image.size, side)
    fitted = image.resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    colour = (255, 255, 255) if background == "white" else _mean_colour(border(np.asarray(image)))
    square = Image.new("RGB", (side, side), colour)
    square.paste(fitted, (left, top))
    return square


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


def border(pixels: Pixels) -> Pixels:
    """Returns the pixels `[n, 3]` of the border: 2 % of the shorter side wide, at least one pixel."""
    height, width = pixels.shape[:2]
    depth = max(1, round(0.02 * min(height, width)))
    if 2 * depth >= min(height, width):
        return pixels.reshape(-1, 3)
    middle = pixels[depth : height - depth]
    parts = (
        pixels[:depth],
        pixels[height - depth :],
        middle[:, :depth],
        middle[:, width - depth :],
    )
    return np.concatenate([part.reshape(-1, 3) for part in parts])


def border_white(image: Image.Image) -> float:
    """Returns the share of the border, 0..1, in which every channel is at least 245."""
    return float((_lowest(border(np.asarray(image))) >= WHITE).mean())


def saturation(image: Image.Image) -> float:
    """
    Returns the 95th percentile of HSV saturation over the pixels that are not white, 0..1.

    Saturation is (max - min) / max over the channels. White is left out, because a small coloured
    figure on white is a coloured image. An image of white pixels alone gives 0.
    """
    pixels = np.asarray(image).reshape(-1, 3)
    drawn = pixels[_lowest(pixels) < WHITE]
    if not len(drawn):
        return 0.0
    high = np.maximum(np.maximum(drawn[:, 0], drawn[:, 1]), drawn[:, 2])
    shares = (high - _lowest(drawn)) / np.maximum(high, 1)
    rank = math.ceil(0.95 * len(shares)) - 1
    return float(np.partition(shares, rank)[rank])


def perceptual_hash(image: Image.Image) -> tuple[bytes, int]:
    """
    Returns the PDQ hash (32 bytes) of a 64-pixel rendering, and its quality (0..100).

    PDQ (Facebook, "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", 2019)
    averages each image to 64 × 64 before its cosine transform. A rendering of that size makes the
    hash cheap and nearly independent of the size of the fetched image: of 600 illustrations, 99.8 %
    of the copies at half size have a distance of at most 10; with a 128-pixel rendering, 94.5 %.
    """
    square = image.resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BILINEAR)
    bits, quality = pdqhash.compute(np.asarray(square))
    return np.packbits(bits).tobytes(), int(quality)


def thumbnail(data: bytes, *, shape: tuple[int, int], side: int) -> Pixels:
    """
    Returns a normalised and encoded image as pixels `[side, side, 3]`, for `difference`.

    `shape` is width and height of the image before it was normalised. The margin is cut off and the
    rest stretched to a square, as for the perceptual hash, so that margins do not count as agreement.
    """
    with Image.open(io.BytesIO(data), formats=list(FORMATS)) as opened:
        content = opened.convert("RGB").crop(_placed(shape, opened.width))
        return np.asarray(content.resize((side, side), Image.Resampling.BILINEAR))


def difference(first: Pixels, second: Pixels) -> float:
    """
    Returns one minus the correlation of two thumbnails over all pixels and channels, 0..2.

    Correlation compares the positions of strokes. The mean absolute difference would not do: two
    different thin drawings on white agree in nearly all of their pixels.
    """
    left = first.astype(np.float64).ravel()
    right = second.astype(np.float64).ravel()
    left, right = left - left.mean(), right - right.mean()
    spread = math.sqrt(float(left @ left) * float(right @ right))
    if spread == 0:
        return 0.0 if np.array_equal(first, second) else 1.0
    return max(0.0, 1.0 - float(left @ right) / spread)


def _pixels(error: Exception) -> int | None:
    """Returns the number of pixels in Pillow's message about a decompression bomb."""
    number = re.search(r"\((\d+) pixels\)", str(error))
    return int(number[1]) if number else None


def _load(opened: Image.Image, kind: str, *, max_pixels: int, side: int) -> DecodedImage:
    width, height = opened.size
    mode = opened.mode
    if width * height > max_pixels:
        raise UnreadableImage(
            "too_many_pixels",
            f"{width} × {height} is more than {max_pixels} pixels",
            measured=width * height,
            threshold=max_pixels,
        )
    # A second frame of a JPEG file (MPO) is the depth map or preview of a camera, not an animation.
    if kind != "JPEG" and getattr(opened, "n_frames", 1) > 1:
        frames = int(getattr(opened, "n_frames", 1))
        raise UnreadableImage("animated_file", f"{frames} frames", measured=frames, threshold=1)
    if kind == "JPEG":
        opened.draft(None, _fitted((width, height), max(DECODED_SIDE, 2 * side)))
    opened.load()
    turn = _turn(opened.info.get("exif"))
    image = _to_srgb(opened)
    if turn is not None:
        image = image.transpose(turn)
        if turn in _SIDEWAYS:
            width, height = height, width
    return DecodedImage(image, kind, mode, width, height)


def _reason(error: Exception) -> str:
    text = str(error).lower()
    return "truncated" if "truncated" in text or "unexpected end" in text else "undecodable"


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset(_TURNS[value] for value in (5, 6, 7, 8))


def _turn(exif: object) -> Image.Transpose | None:
    """
    Returns the transposition for the orientation in EXIF: tag 0x0112 of the first directory.

    Only that directory is read, and never beyond the bytes of the block.
    """
    if not isinstance(exif, bytes):
        return None
    block = exif.removeprefix(b"Exif\x00\x00")
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(block[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for entry in range(min(count, 512)):
            tag, kind, number, value = struct.unpack_from(
                order + "HHIH", block, start + 2 + 12 * entry
            )
            if (tag, kind, number) == (0x0112, 3, 1):
                return _TURNS.get(value)
    except struct.error:
        return None
    return None


def _to_srgb(opened: Image.Image) -> Image.Image:
    profile = opened.info.get("icc_profile")
    if isinstance(profile, bytes) and 128 <= len(profile) <= MAX_PROFILE_BYTES:
        if opened.mode in ("RGB", "CMYK", "L") and "transparency" not in opened.info:
            return _through_profile(opened, profile)
        return _through_profile(_on_white(opened), profile)
    return _on_white(opened)


def _through_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Converts to sRGB; an embedded profile that is unreadable or for other channels is ignored."""
    try:
        transform = _transform(profile, image.mode)
        converted = transform.apply(image)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return _on_white(image)
    return converted


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.ImageCmsTransform(source, srgb, mode, "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)  # 16-bit grey of a PNG file
        return Image.fromarray((deep >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        paper = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        return Image.alpha_composite(paper, clear).convert("RGB")
    return image.convert("RGB")


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Returns the size with the long side `side` and the same aspect ratio, at least one pixel."""
    width, height = size
    longest = max(width, height)
    return max(1, round(width * side / longest)), max(1, round(height * side / longest))


def _placed(size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom of an image of `size` in the centre of a square."""
    width, height = _fitted(size, side)
    left, top = (side - width) // 2, (side - height) // 2
    return left, top, left + width, top + height


def _mean_colour(pixels: Pixels) -> tuple[int, int, int]:
    red, green, blue = (round(float(pixels[:, channel].mean())) for channel in range(3))
    return red, green, blue


def _lowest(pixels: Pixels) -> Pixels:
    """Returns the least channel of each pixel, `[n]`; faster than `min` over an axis of three."""
    return np.minimum(np.minimum(pixels[:, 0], pixels[:, 1]), pixels[:, 2])


def _sharpness(grey: npt.NDArray[np.float64]) -> float:
    """Returns the variance of the 4-neighbour Laplacian of a grey rendering, without its border."""
    if min(grey.shape) < 3:
        return 0.0
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * middle).var())
