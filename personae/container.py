"""
The container of one image, before it is decoded: its format, its end, and structure made to be slow.

Pillow would read some files that end early as whole images, and spend minutes on others.
"""

import zlib

from personae.errors import UnreadableImage

MAX_SCANS = 100  # progressive JPEG files have about ten; each scan costs a pass over all pixels
MAX_MARKERS = 10_000  # JPEG files have tens before their pixels; each costs Pillow a call
MAX_CHUNKS = 100_000  # PNG files have thousands at most; each costs Pillow a call
_SCAN = b"\xda"
# Markers that Pillow reads without a length: an escaped byte, restarts, start, end, extensions.
_LONE_MARKERS = frozenset(
    bytes([code]) for code in (0x00, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE))
)

SIGNATURE_BYTES = 12
"""So many bytes tell the format."""


def signature(head: bytes) -> str | None:
    """Returns the format that the first bytes announce: JPEG, PNG or WEBP; None for any other."""
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return None


def format_of(data: bytes) -> str:
    """
    Returns the format by the first bytes: JPEG, PNG or WEBP.

    Raises:
        UnreadableImage: The file is of another format, ends early, or is made to be slow; `reason`
            is undecodable or truncated.
    """
    kind = signature(data)
    if kind == "JPEG":
        scans = data.count(b"\xff\xda")
        if scans > MAX_SCANS:
            raise UnreadableImage(
                "undecodable",
                f"a JPEG file of more than {MAX_SCANS} scans",
                measured=scans,
                threshold=MAX_SCANS,
            )
        _check_markers(data)
    elif kind == "PNG":
        _check_chunks(data)
    elif kind == "WEBP":
        announced = 8 + int.from_bytes(data[4:8], "little")
        if len(data) < announced:
            raise UnreadableImage(
                "truncated",
                f"{len(data)} of {announced} bytes",
                measured=len(data),
                threshold=announced,
            )
    else:
        shown = data[:12].decode("ascii", "replace").encode("ascii", "backslashreplace").decode()
        raise UnreadableImage(
            "undecodable",
            f"begins with {shown!r}: no JPEG, PNG or WebP" if data else "no bytes at all",
        )
    return kind


def without_damaged_extras(data: bytes) -> bytes:
    """
    Returns a PNG file, which `format_of` accepts, without ancillary chunks of a wrong checksum.

    They hold texts and times. Pillow refuses the whole file for one of them; browsers skip it.
    """
    parts, position, kept = [], 8, 0
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4] & 0x20 and not _has_checksum(data, position, end):
            parts.append(data[kept:position])
            kept = end
        if data[position + 4 : position + 8] == b"IEND":
            break
        position = end
    return b"".join([*parts, data[kept:]]) if parts else data


def _has_checksum(data: bytes, start: int, end: int) -> bool:
    """Returns whether the PNG chunk of the bytes from `start` to `end` has the checksum it names."""
    return zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")


def _check_markers(data: bytes) -> None:
    """Checks that a JPEG file has few markers and fill bytes before its first scan, as Pillow reads it."""
    position = 2
    for _ in range(MAX_MARKERS):
        position = data.find(b"\xff", position)
        marker = data[position + 1 : position + 2]
        if position < 0 or marker in (b"", _SCAN):
            return
        if marker == b"\xff":  # a fill byte
            position += 1
        elif marker in _LONE_MARKERS:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise UnreadableImage(
        "undecodable",
        f"a JPEG file of more than {MAX_MARKERS} markers",
        measured=MAX_MARKERS + 1,
        threshold=MAX_MARKERS,
    )


def _check_chunks(data: bytes) -> None:
    """Checks all chunks of a PNG file: Pillow checks neither the sums of pixel data nor the end."""
    position = 8
    for _ in range(MAX_CHUNKS):
        if position + 12 > len(data):
            raise UnreadableImage("truncated", "a PNG file without its end")
        size = int.from_bytes(data[position : position + 4], "big")
        name, end = data[position + 4 : position + 8], position + 12 + size
        if end > len(data):
            raise UnreadableImage("truncated", f"the PNG chunk at byte {position} ends early")
        is_critical = not name[0] & 0x20
        if is_critical and not _has_checksum(data, position, end):
            raise UnreadableImage("undecodable", f"wrong checksum at byte {position}")
        if name == b"IEND":
            return
        position = end
    raise UnreadableImage(
        "undecodable",
        f"a PNG file of more than {MAX_CHUNKS} chunks",
        measured=MAX_CHUNKS + 1,
        threshold=MAX_CHUNKS,
    )
