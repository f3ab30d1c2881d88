"""
Tar members whose bytes depend on name and content only: USTAR headers with zeroed metadata.

POSIX.1-2017, `pax`, section "ustar Interchange Format": a member is a header of 512 bytes, then the
data, filled up to a multiple of 512. Names must be ASCII and at most 100 characters long.
"""

import tarfile

BLOCK = 512
"""Bytes of a header, and of the unit that data is filled up to."""


def member(name: str, data: bytes) -> bytes:
    """Returns header, data and padding of one file: time, owner and group zero, mode 0644."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    header = info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    return header + data + bytes(-len(data) % BLOCK)


def end(size: int) -> bytes:
    """
    Returns the end of a tar of `size` bytes.

    Two empty blocks end the archive. More follow until the record of 20 blocks is full, as tar
    programs expect.
    """
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % tarfile.RECORDSIZE)
