"""
Which file of a post to fetch, and whether the bytes received are that file: pure functions.

Bytes come from strangers, so nothing is decoded here: type and size are read from the first bytes,
before any pixel is made. Stage `measure` of curation decodes the image.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scraper.ledger import RefusedImage, StoredImage
from scraper.post import Variant

_STILL = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "webp": "webp"}
_LONE_MARKERS = {0x01, *range(0xD0, 0xD9)}
_NOT_FRAMES = {0xC4, 0xC8, 0xCC}
_MOST_MARKERS = 10_000
"""Markers of a JPEG that are read in search of its size; real files have tens of them."""
# How far a file may differ from its listed size: rounding of both sides, or an older rule of size.
_ROUNDED = 2
_LARGEST_SCALE = 4.0
_LARGEST_SKEW = 1.03
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True, slots=True)
class Header:
    """Type and size, read from the first bytes of a file."""

    file_ext: str
    """`jpg`, `png`, `webp` or `gif`."""
    width: int
    """In pixels; 0 when the header is cut short or invalid."""
    height: int
    """In pixels; 0 when the header is cut short or invalid."""


@dataclass(frozen=True, slots=True)
class RequestedFile:
    """The file to fetch for one post."""

    post_id: int
    md5: str | None
    """Of the original, as listed, whatever the variant."""
    original_bytes: int
    """Of the original, as listed."""
    variant: Variant | None
    """None when the post has no still image."""

    @property
    def file_key(self) -> str:
        """Differs between the files of one post, and when the board replaces a file."""
        return f"{self.md5 or '-'} {self.variant.url if self.variant else '-'}"

    def refused(
        self, reason: str, measured: float | None = None, threshold: float | None = None
    ) -> RefusedImage:
        """Returns the row that records why this file is refused for good."""
        return RefusedImage(self.post_id, self.file_key, reason, measured, threshold)

    def suspected(
        self,
        reason: str,
        measured: float | None = None,
        threshold: float | None = None,
        *,
        evidence: str = "",
    ) -> RefusedImage:
        """Returns the row of an answer that the network may have caused (`ledger.State`)."""
        return RefusedImage(
            self.post_id, self.file_key, reason, measured, threshold, "suspected", evidence
        )


def smallest_sufficient(variants: Sequence[Variant], side: int | None) -> Variant | None:
    """
    Returns the smallest still variant whose long side is at least `side` pixels.

    If none is large enough, the largest. Of equal sizes the first listed, which has fewer bytes.
    If `side` is None, the original. None when no variant is a still image.
    """
    still = [variant for variant in variants if variant.file_ext in _STILL]
    if side is None:
        # The original stands last, after variants that may have its size.
        return max(reversed(still), key=_pixels, default=None)
    enough = [variant for variant in still if max(variant.width, variant.height) >= side]
    return min(enough, key=_pixels) if enough else max(still, key=_pixels, default=None)


def inspect(payload: bytes, file: RequestedFile, *, max_pixels: int) -> Header | RefusedImage:
    """
    Returns type and size of a file that is the listed one, or the refusal.

    The bytes decide, not the listing: the listed size of a variant may differ from the size of the
    file, since boards compute the one and resize for the other. An original must have the listed
    md5; its size and its type may be others. A variant, of which the board lists no checksum, must
    have the listed type, and nearly the listed shape: a placeholder has another.
    """
    variant, image = file.variant, header(payload)
    assert variant is not None, "a file was fetched without a variant"  # noqa: S101  # our mistake
    if image is None:
        return file.suspected("wrong_type")
    is_checkable = variant.type == "original" and file.md5 is not None
    is_listed = is_checkable and _md5(payload) == file.md5
    types = _STILL.values() if is_listed else [_STILL.get(variant.file_ext)]
    pixels, listed = image.width * image.height, _pixels(variant)
    refusal = None
    if image.file_ext not in types:
        refusal = file.suspected("wrong_type")
    elif pixels == 0:
        refusal = file.suspected("corrupt")
    elif pixels > max_pixels:
        refusal = file.refused("too_large", pixels, max_pixels)
    elif is_checkable and not is_listed:
        refusal = file.suspected("wrong_md5", len(payload), file.original_bytes)
    elif not is_listed and listed and not _is_near(image, variant):
        refusal = file.suspected("wrong_shape", pixels, listed)
    return image if refusal is None else replace(refusal, evidence=sha256(payload))


def stored_image(
    file: RequestedFile, payload: bytes, image: Header, segment: str, offset: int
) -> StoredImage:
    """Returns the row of an image whose bytes begin at `offset` of a segment."""
    listed = (file.variant.width, file.variant.height) if file.variant else ()
    is_as_listed = {image.width, image.height} == set(listed)
    return StoredImage(
        post_id=file.post_id,
        file_key=file.file_key,
        segment=segment,
        offset=offset,
        file_bytes=len(payload),
        sha256=sha256(payload),
        file_ext=image.file_ext,
        width=None if is_as_listed else image.width,
        height=None if is_as_listed else image.height,
    )


def _is_near(image: Header, variant: Variant) -> bool:
    """Returns whether a file may be the listed variant, made by another rule of rounding or size."""
    actual, listed = sorted((image.width, image.height)), sorted((variant.width, variant.height))
    if all(abs(side - other) <= _ROUNDED for side, other in zip(actual, listed, strict=True)):
        return True
    scales = [side / other for side, other in zip(actual, listed, strict=True)]
    is_scaled = all(1 / _LARGEST_SCALE <= scale <= _LARGEST_SCALE for scale in scales)
    return is_scaled and max(scales) <= min(scales) * _LARGEST_SKEW


def _md5(payload: bytes) -> str:
    return hashlib.md5(payload, usedforsecurity=False).hexdigest()


def sha256(payload: bytes) -> str:
    """Returns the hash by which the bytes of an image are recorded, 64 hex digits."""
    return hashlib.sha256(payload).hexdigest()


def header(payload: bytes) -> Header | None:
    """Returns type and size from the first bytes, or None for an unknown type."""
    if payload.startswith(b"\x89PNG\r\n\x1a\n"):
        return Header("png", *_png_size(payload))
    if payload.startswith(b"\xff\xd8\xff"):
        return Header("jpg", *_jpeg_size(payload))
    if payload[:4] == b"RIFF" and payload[8:12] == b"WEBP":
        return Header("webp", *_webp_size(payload))
    if payload[:6] in (b"GIF87a", b"GIF89a"):
        return Header("gif", _little(payload[6:8], 2), _little(payload[8:10], 2))
    return None


def has_end(payload: bytes) -> bool:
    """Returns whether a file has the end of its format; True for an unknown type."""
    if payload.startswith(b"\xff\xd8\xff"):
        # The bytes of a scan never look like a marker (ITU-T T.81, B.1.1.5).
        return payload.find(b"\xff\xd9", max(0, payload.rfind(b"\xff\xda"))) > 0
    if payload.startswith(b"\x89PNG\r\n\x1a\n"):
        return _PNG_END in payload
    if payload[:4] == b"RIFF" and payload[8:12] == b"WEBP":
        return len(payload) >= 8 + _little(payload[4:8], 4)
    return True


def _png_size(payload: bytes) -> tuple[int, int]:
    """Returns width and height from the first chunk, IHDR (PNG, third edition, 5.6 and 11.2.1)."""
    if payload[12:16] != b"IHDR" or len(payload) < 24:
        return 0, 0
    size = int.from_bytes(payload[16:20], "big"), int.from_bytes(payload[20:24], "big")
    return size if max(size) < 1 << 31 else (0, 0)  # 11.2.1 allows 31 bits


def _jpeg_size(payload: bytes) -> tuple[int, int]:
    """Returns width and height from the first frame header (ITU-T T.81, B.1.1 and B.2.2)."""
    position = 2
    for _ in range(_MOST_MARKERS):
        if position + 9 > len(payload) or payload[position] != 0xFF:
            return 0, 0
        marker = payload[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _LONE_MARKERS:
            position += 2
        elif 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES:
            high, wide = payload[position + 5 : position + 7], payload[position + 7 : position + 9]
            return int.from_bytes(wide, "big"), int.from_bytes(high, "big")
        elif marker in (0xD9, 0xDA):  # the end, or pixels, before any frame
            return 0, 0
        else:
            position += 2 + max(2, int.from_bytes(payload[position + 2 : position + 4], "big"))
    return 0, 0


def _webp_size(payload: bytes) -> tuple[int, int]:
    """Returns width and height from the first chunk (RFC 9649, sections 2.5 to 2.7)."""
    chunk, body = payload[12:16], payload[20:30]
    if chunk == b"VP8X" and len(body) == 10:
        return 1 + _little(body[4:7], 3), 1 + _little(body[7:10], 3)
    if chunk == b"VP8 " and len(body) == 10 and body[3:6] == b"\x9d\x01\x2a":
        return _little(body[6:8], 2) & 0x3FFF, _little(body[8:10], 2) & 0x3FFF
    if chunk == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = _little(body[1:5], 4)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return 0, 0


def _pixels(variant: Variant) -> int:
    return variant.width * variant.height


def _little(field: bytes, length: int) -> int:
    """Returns a little-endian number; 0 when `field` is shorter than `length` bytes."""
    return int.from_bytes(field, "little") if len(field) == length else 0
