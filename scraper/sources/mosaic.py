"""
Mosaics: a sheet is decoded once for all its tiles, and each tile becomes a PNG.

The bytes of the PNG depend on the pixels alone. A sheet may come from strangers: its size is read
from its first bytes, and must be that of the index, before any pixel is made.
"""

import errno
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from PIL import Image

from scraper.errors import CorruptImage, NotFound, TransientError
from scraper.image import header
from scraper.sources.layout.images import Mosaic

Pixels: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

HEADER_BYTES = 2**20
"""Bytes read to find the size: a JPEG may have profiles and previews before it."""
_SHEETS_KEPT = 4  # a label of a sorted data set spans two train and two test mosaics
_FORMATS = ("PNG", "WEBP", "JPEG")
_MODES = ("RGB", "L", "P", "1")  # what 8-bit RGB holds without loss
# The file cannot be read, now or later; other failures of the system may pass.
_LASTING = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ELOOP,
        errno.EISDIR,
        errno.ENXIO,
        errno.ENAMETOOLONG,
    }
)


class Sheets:
    """
    The mosaics of one folder; the last few used stay decoded in memory.

    Args:
        opened: Opens a file of the folder by its path.
        mosaics: Rows, columns and tile side of each, by path.
    """

    def __init__(self, opened: Callable[[str], BinaryIO], mosaics: Mapping[str, Mosaic]) -> None:
        self._opened = opened
        self._mosaics = mosaics
        self._kept: OrderedDict[str, Pixels] = OrderedDict()

    def tile(self, path: str, number: str) -> bytes:
        """
        Returns a tile as PNG; `number` is the text after `#` in the URL.

        Raises:
            NotFound: The index has no such tile; or as `opened` raises.
            CorruptImage: The file is not the mosaic that the index states.
        """
        mosaic = self._mosaics.get(path)
        is_number = number.isdecimal() and len(number) < 8
        if mosaic is None or not is_number or int(number) >= mosaic.rows * mosaic.columns:
            raise NotFound(f"{path} has no tile {number:.20} in the index.", url=path)
        row, column = divmod(int(number), mosaic.columns)
        side = mosaic.side
        pixels = self._sheet(path, mosaic)
        return png(pixels[row * side : (row + 1) * side, column * side : (column + 1) * side])

    def _sheet(self, path: str, mosaic: Mosaic) -> Pixels:
        if path not in self._kept:
            self._kept[path] = self._decoded(path, mosaic)
            if len(self._kept) > _SHEETS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(path)
        return self._kept[path]

    def _decoded(self, path: str, mosaic: Mosaic) -> Pixels:
        expected = (mosaic.columns * mosaic.side, mosaic.rows * mosaic.side)
        with self._opened(path) as file:
            # Read before any pixel is made: Pillow would decode whatever size the file claims.
            size = header(start_of(file, HEADER_BYTES, path))
            if size is None or (size.width, size.height) != expected:
                shown = f"{size.width} × {size.height}" if size else "no image"
                raise CorruptImage(
                    f"{path} is {shown}, and the index states {expected[0]} × {expected[1]}."
                )
            file.seek(0)
            try:
                with Image.open(file, formats=_FORMATS) as image:
                    if image.mode not in _MODES:
                        raise CorruptImage(
                            f"{path} has mode {image.mode}; a mosaic is 8-bit RGB or grey."
                        )
                    pixels = np.asarray(image.convert("RGB"))
            except (OSError, SyntaxError, ValueError, EOFError) as error:
                raise CorruptImage(f"{path} cannot be decoded ({error}).") from error
        if pixels.shape != (expected[1], expected[0], 3):
            raise CorruptImage(
                f"{path} decodes to {pixels.shape}, another size than its header states."
            )
        return pixels


def png(pixels: Pixels) -> bytes:
    """
    Returns an 8-bit RGB image `[height, width, 3]` as PNG (third edition), not compressed.

    The bytes depend on the pixels alone, not on the version of a library, so an equal md5
    means an unchanged tile.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, 3 * width)
    raw = rows.tobytes()
    stored = [b"\x78\x01"]
    for start in range(0, len(raw), 0xFFFF):
        piece = raw[start : start + 0xFFFF]
        is_last = start + 0xFFFF >= len(raw)
        size = len(piece)
        stored.append(
            bytes([is_last]) + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little")
        )
        stored.append(piece)
    stored.append(zlib.adler32(raw).to_bytes(4, "big"))
    described = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    chunks = ((b"IHDR", described), (b"IDAT", b"".join(stored)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        for kind, body in chunks
    )


def start_of(file: BinaryIO, most: int, path: str) -> bytes:
    """Returns the next bytes of a file, at most `most`; raises what `unreadable` returns."""
    try:
        return file.read(most)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: OSError) -> NotFound | TransientError:
    """Returns our error for one of the system: `NotFound`, or `TransientError` if it may pass."""
    if error.errno in _LASTING:
        return NotFound(f"{path} cannot be read ({error.strerror}).", url=path)
    return TransientError(f"{path} could not be read ({error}). Check the disk.", url=path)
