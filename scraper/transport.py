"""The interface of whatever fetches the bytes of images: the HTTP client, or a folder."""

from typing import Protocol


class Transport(Protocol):
    """Fetches bytes: the client, or a folder."""

    @property
    def is_remote(self) -> bool:
        """True where a network lies between, which may answer in place of the site."""

    async def get_bytes(self, url: str, *, max_bytes: int) -> bytes:
        """Returns the body at `url` (relative to the board, or foreign), at most `max_bytes`."""
