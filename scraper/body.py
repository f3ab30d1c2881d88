"""
The body of a response, unpacked while it arrives, under a cap.

Both HTTP clients read bodies through it, so that neither a body without end nor a small packed one
that unpacks to a large one fills the memory.
"""

import zlib
from collections.abc import Mapping
from http import HTTPStatus

from scraper.errors import CutShort, TooLarge, UnexpectedResponse
from scraper.responses import quoted, shown

_MOST_ERROR_BYTES = 64 * 1024
_GZIP = b"\x1f\x8b"
_MOST_MEMBERS = 100
"""Members of a gzip body; each costs time, even an empty one."""


class ResponseBody:
    """
    The body of one response, unpacked while it arrives; it never holds more than the cap.

    Args:
        url: Address of the response.
        status: Status of the response.
        fields: Headers of the response.
        most: Largest accepted number of bytes for status 200. The bodies of errors are read to
            their first part only.

    Raises:
        TooLarge: The announced length is above the cap.
        UnexpectedResponse: The encoding was not requested.
    """

    def __init__(self, url: str, status: int, fields: Mapping[str, str], most: int) -> None:
        self._url = url
        self._is_complete = status == HTTPStatus.OK
        self._most = most if self._is_complete else _MOST_ERROR_BYTES
        length = fields.get("Content-Length", "")
        self._announced = int(length) if length.isascii() and length.isdigit() else 0
        if self._is_complete and self._announced > self._most:
            raise self._too_large(self._announced)
        self._unpack = _unpacker(fields.get("Content-Encoding", "identity"), url)
        self._members = 1
        self._is_over = False
        self._received = 0
        self._content = bytearray()

    def add(self, chunk: bytes) -> bool:
        """
        Takes the next bytes from the network; returns whether more are needed.

        Raises:
            TooLarge: The body has more bytes than the cap.
            CutShort: The packed bytes are damaged.
        """
        self._received += len(chunk)
        if self._unpack:
            self._add_packed(chunk)
        else:
            self._content += chunk
        if len(self._content) <= self._most:
            return not self._is_over
        if self._is_complete:
            raise self._too_large(max(self._announced, len(self._content)))
        del self._content[self._most :]
        return False

    def _add_packed(self, chunk: bytes) -> None:
        """Unpacks a chunk; a gzip body may have several members (RFC 1952, 2.2)."""
        while chunk and self._unpack and len(self._content) <= self._most and not self._is_over:
            if self._unpack.eof:
                # Other bytes after the end are not read: there may be no end of them.
                self._is_over = chunk[:1] != _GZIP[:1] or self._members == _MOST_MEMBERS
                if self._is_over:
                    return
                self._members += 1
                self._unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            try:
                room = self._most + 1 - len(self._content)
                self._content += self._unpack.decompress(chunk, room)
            except zlib.error as error:
                raise CutShort(
                    f"{shown(self._url)} sent damaged gzip data ({error}).", url=self._url
                ) from error
            chunk = self._unpack.unused_data

    def content(self) -> bytes:
        """
        Returns the whole body, after its last byte.

        Raises:
            CutShort: The body ended before its announced end.
        """
        is_cut_by_cap = not self._is_complete and len(self._content) == self._most
        is_unpacked = not (self._unpack and self._received) or self._unpack.eof
        is_short = self._received < self._announced and not self._is_over
        if not is_cut_by_cap and (not is_unpacked or is_short):
            raise CutShort(
                f"{shown(self._url)} ended after {self._received} bytes, before its end.",
                url=self._url,
            )
        return bytes(self._content)

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(
            f"{shown(self._url)} has more than the {self._most} bytes that are accepted.",
            size=size,
            url=self._url,
            is_announced=self._announced > self._most,
        )


def _unpacker(encoding: str, url: str) -> "zlib._Decompress | None":
    encoding = encoding.strip().lower()
    if encoding in ("identity", ""):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # either header is recognised
    raise UnexpectedResponse(
        f"{shown(url)} is packed as {quoted(encoding)}, which was not requested. The board, or a "
        "proxy before it, is broken. Try later."
    )
