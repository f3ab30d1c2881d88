"""Near-duplicate edits: the changes of an image that is posted a second time."""

import io
import random
from collections.abc import Callable

from PIL import Image, ImageEnhance

_KEPT_SHARE = 0.99
"""
Share of each side that a crop keeps.

At 0.98 the perceptual hash of a checkered background moves by more than 31 bits, the published
limit of PDQ for a match.
"""


def edit(image: Image.Image, *, kind: str, seed: int) -> Image.Image:
    """
    Returns a near duplicate of an RGB image. `resize` and `crop` change its size.

    Args:
        image: The image, which is not changed.
        kind: The edit, a key of `EDITS`.
        seed: Random seed of the edit's strength.

    Raises:
        KeyError: `kind` is not a key of `EDITS`.
    """
    return EDITS[kind](image, random.Random(f"edit/{kind}/{seed}"))  # noqa: S311 - drawings, no secrets


def _resize(image: Image.Image, rng: random.Random) -> Image.Image:
    share = rng.uniform(0.7, 0.9)
    size = (round(image.width * share), round(image.height * share))
    return image.resize(size, Image.Resampling.LANCZOS)


def _reencode(image: Image.Image, rng: random.Random) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=rng.randrange(40, 70))
    return Image.open(stream).convert("RGB")


def _crop(image: Image.Image, rng: random.Random) -> Image.Image:
    wide, high = round(image.width * _KEPT_SHARE), round(image.height * _KEPT_SHARE)
    left, top = rng.randrange(image.width - wide + 1), rng.randrange(image.height - high + 1)
    return image.crop((left, top, left + wide, top + high))


def _recolour(image: Image.Image, rng: random.Random) -> Image.Image:
    brighter = ImageEnhance.Brightness(image).enhance(rng.uniform(0.93, 1.05))
    return ImageEnhance.Color(brighter).enhance(rng.uniform(0.8, 1.2))


EDITS: dict[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    "resize": _resize,
    "reencode": _reencode,
    "crop": _crop,
    "recolour": _recolour,
}
"""Edit to the function that applies it with a random stream."""
