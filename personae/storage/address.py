"""Addresses of storage: a URL without credentials, such as `s3://bucket/folder`."""

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from personae.errors import BadParams

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


@dataclass(frozen=True, slots=True)
class Address:
    """A folder of a storage."""

    url: str
    """Without a slash at its end; it is safe to print."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """
        Returns the address of a URL.

        Raises:
            BadParams: The text is no URL with a scheme and a folder, or it holds more than an
                address: a user, a password, a query. The message repeats none of them.
        """
        scheme = url.partition("://")[0]
        if "://" not in url or not _SCHEME.fullmatch(scheme):
            # The text may be a mistyped URL with a password, so it is not repeated.
            raise BadParams(
                "A storage is named by a URL such as s3://bucket/folder or file:///folder, and this is "
                "none."
            )
        if "@" in url or "?" in url or "#" in url:
            raise BadParams(
                f"The {scheme} URL holds more than an address: an @, a ? or a #. Credentials never "
                "belong in a URL, which stands in logs and files. Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY in the environment, and give the URL without them."
            )
        parts = urlsplit(url)
        if "::" in url or not (parts.netloc or parts.path.strip("/")):
            raise BadParams(
                f"The {scheme} URL names no folder of a storage. Give one such as s3://bucket/folder."
            )
        return cls(url.rstrip("/"))

    @property
    def scheme(self) -> str:
        """The part before `://`."""
        return self.url.partition("://")[0]

    def __str__(self) -> str:
        """Returns the URL."""
        return self.url
