"""
From the bytes of an image to a normalised square: the only decoder of images from outside.

`decode` turns bytes from the internet into an upright sRGB image, or raises `UnreadableImage` with a
reason code; `normalise` fits it into a square. Stage `measure` and the command `predict` use both, so
a network predicts on squares like those that it was trained on. The same bytes and the same library
versions give the same pixels.
"""

import functools
import io
import re
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from personae import container
from personae.errors import UnreadableImage

Pixels = npt.NDArray[np.uint8]
Background = Literal["border", "white"]

FORMATS = ("JPEG", "PNG", "WEBP")  # the still images that boards serve
MAX_PROFILE_BYTES = 1 << 20  # colour profiles of screens are a few kilobytes, of presses under 1 MB
DECODED_SIDE = 256  # least long side of a decoded JPEG file, pixels, if the file is as large
_STRIP_PIXELS = 1 << 20  # that are laid on white at a time
_ADDRESS = re.compile(r"<[^<>]* at 0x[0-9a-fA-F]+>")  # of an object, in messages of Pillow


def square(data: bytes, *, side: int, background: Background, max_pixels: int) -> Pixels:
    """
    Returns the bytes of an image as pixels `[side, side, 3]`, RGB.

    Raises:
        UnreadableImage: As `decode`.
    """
    decoded = decode(data, max_pixels=max_pixels, side=side)
    return np.asarray(normalise(decoded.image, side=side, background=background))


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """One decoded image: `image` is upright RGB, transparent pixels on white, perhaps scaled down."""

    image: Image.Image
    file_format: str  # JPEG, PNG or WEBP
    mode: str  # of the stored image, as Pillow names it
    width: int  # pixels of the stored image, after it is turned upright
    height: int


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
    if kind == "PNG":
        data = container.without_damaged_extras(data)
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
            raise UnreadableImage(_reason(error), _described(error)) from error
        except (ArithmeticError, AttributeError, struct.error, zlib.error) as error:
            raise UnreadableImage("undecodable", _described(error)) from error


def normalise(
    image: Image.Image, *, side: int, background: Background, edge: Pixels | None = None
) -> Image.Image:
    """
    Fits an image into the centre of a square of `side` pixels; its aspect ratio is kept.

    The margin has the mean colour of the border of the image, or is white. `edge` is the border, if
    the caller has it.
    """
    left, top, right, bottom = placed(image.size, side)
    fitted = image.resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    if background == "white":
        colour = (255, 255, 255)
    else:
        colour = _mean_colour(border(image) if edge is None else edge)
    square = Image.new("RGB", (side, side), colour)
    square.paste(fitted, (left, top))
    return square


def border(image: Image.Image) -> Pixels:
    """
    Returns the pixels `[n, 3]` of the border of an RGB image.

    It is 2 % of the shorter side wide, at least one pixel. Only its pixels are copied out of the image.
    """
    width, height = image.size
    depth = max(1, round(0.02 * min(width, height)))
    boxes = [(0, 0, width, height)]
    if 2 * depth < min(width, height):
        boxes = [
            (0, 0, width, depth),
            (0, height - depth, width, height),
            (0, depth, depth, height - depth),
            (width - depth, depth, width, height - depth),
        ]
    content = b"".join(image.crop(box).tobytes() for box in boxes)
    return np.frombuffer(content, np.uint8).reshape(-1, 3)


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
        opened.draft(None, fitted((width, height), max(DECODED_SIDE, 2 * side)))
    opened.load()
    turn = _turn(opened.info.get("exif"))
    image = _to_srgb(opened)
    if turn is not None:
        image = image.transpose(turn)
        if turn in _SIDEWAYS:
            width, height = height, width
    return DecodedImage(image, kind, mode, width, height)


def _described(error: Exception) -> str:
    """Returns the decoder's message, the same for the same bytes: without addresses in memory."""
    return f"{type(error).__name__}: {_ADDRESS.sub('the file', str(error))}"


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
            if (tag, kind, number) == (0x0112, 4, 1):  # some programs write 32 bits
                (value,) = struct.unpack_from(order + "I", block, start + 2 + 12 * entry + 8)
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
    if not image.mode.startswith("I") and not _has_transparency(image):
        return image.convert("RGB")
    # Strip by strip: as a whole, the copies in between would be three times the image.
    opaque = Image.new("RGB", image.size)
    height = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, height):
        strip = image.crop((0, top, image.width, min(top + height, image.height)))
        opaque.paste(_strip_on_white(strip), (0, top))
    return opaque


def _has_transparency(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def _strip_on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)  # 16-bit grey of a PNG file
        deep[deep == image.info.get("transparency")] = 65535  # one grey value is transparent
        return Image.fromarray((deep >> 8).astype(np.uint8)).convert("RGB")
    clear = image.convert("RGBA")
    paper = Image.new("RGBA", clear.size, (255, 255, 255, 255))
    return Image.alpha_composite(paper, clear).convert("RGB")


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Returns the size with the long side `side` and the same aspect ratio, at least one pixel."""
    width, height = size
    longest = max(width, height)
    return max(1, round(width * side / longest)), max(1, round(height * side / longest))


def placed(size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom of an image of `size` in the centre of a square."""
    width, height = fitted(size, side)
    left, top = (side - width) // 2, (side - height) // 2
    return left, top, left + width, top + height


def _mean_colour(pixels: Pixels) -> tuple[int, int, int]:
    red, green, blue = np.ascontiguousarray(pixels.T).sum(axis=1).tolist()
    return round(red / len(pixels)), round(green / len(pixels)), round(blue / len(pixels))
