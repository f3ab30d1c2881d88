"""
Decoding, resizing and encoding of one image, as the peers of stages `measure` and `shards` do it.

It needs Pillow alone, because it runs in the environments of the peers too.
"""

import io

from PIL import Image

SIDE = 48
"""Pixels, as parameter `measure.side` has by default."""


def encoded(path: str) -> bytes:
    """Returns an image fitted into a white square and encoded as PNG, as stage `measure` does."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    scale = SIDE / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    square = Image.new("RGB", (SIDE, SIDE), "white")
    fitted = image.resize((width, height), Image.Resampling.BICUBIC)
    square.paste(fitted, ((SIDE - width) // 2, (SIDE - height) // 2))
    buffer = io.BytesIO()
    square.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
