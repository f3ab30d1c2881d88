"""Near-duplicate edits: what happens to an image that is posted again."""

import io
import random
from collections.abc import Callable

from PIL import Image, ImageEnhance

# Losing two percent of a side moves the hash of a checkered ground by more than 31 bits.
_FILLED = 0.99


def edit(image: Image.Image, *, kind: str, seed: int) -> Image.Image:
    """Returns a near duplicate of the image; `kind` is one of `EDITS`."""
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
    wide, high = round(image.width * _FILLED), round(image.height * _FILLED)
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
