"""
One storage: the only place that calls fsspec, and where its errors become ours.

Credentials come from the environment alone: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_SESSION_TOKEN. Files of credentials, profiles and the services of cloud machines are not read.
Without credentials requests are anonymous, as public buckets allow.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from personae.errors import (
    BadParams,
    MissingInput,
    MissingPackage,
    StorageDenied,
    StorageUnreachable,
)
from personae.storage.address import Address

KEY_ID: Final = "AWS_ACCESS_KEY_ID"
SECRET: Final = "AWS_SECRET_ACCESS_KEY"  # noqa: S105  # the name of a variable
_TOKEN: Final = "AWS_SESSION_TOKEN"  # noqa: S105  # the name of a variable
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_S3: Final = ("s3", "s3a")
_LATER: Final = (408, 409, 429)  # statuses that may pass
# Their lowest level shows the headers of requests.
_LOGGERS: Final = ("s3fs", "fsspec", "botocore", "aiobotocore")


class RemoteStore:
    """
    The files below one address.

    Args:
        address: Where they lie.

    The connection is opened by the first request. Every method raises:
        BadParams: No program here knows the scheme of the address.
        MissingPackage: The package for the scheme is not installed.
        StorageDenied: The storage refuses the credentials, or there are none.
        StorageUnreachable: No answer came, or the server has a fault; the same request may succeed
            later.
    """

    def __init__(self, address: Address) -> None:
        self.address = address

    def __str__(self) -> str:
        """Returns the URL."""
        return str(self.address)

    def __reduce__(self) -> tuple[type["RemoteStore"], tuple[Address]]:
        """Pickles the address alone: another process reads its own environment."""
        return RemoteStore, (self.address,)

    def sizes(self) -> dict[str, int]:
        """Returns the bytes of each file, by its name below the address; empty where none is."""
        with self._translated("list"):
            try:
                entries = self.filesystem.find(self._root, detail=True)
            except FileNotFoundError:
                self._check_bucket()
                return {}
        start = len(self._root.rstrip("/")) + 1
        return {path[start:]: int(entry["size"]) for path, entry in entries.items()}

    def read(self, name: str, start: int, end: int) -> bytes:
        """
        Returns the bytes from `start` to before `end` of a file, fewer where it ends earlier.

        Raises:
            MissingInput: There is no such file.
        """
        if start == end:
            return b""
        with self._translated("read", name):
            return bytes(self.filesystem.cat_file(self.path(name), start=start, end=end))

    def write(self, name: str, content: bytes) -> None:
        """Writes a small file: readers see the old content or the new one."""
        with self._translated("write", name):
            if self.has_parts:
                self.filesystem.pipe_file(self.path(name), content)
                return
            part = f"{self.path(name)}.part"
            self.filesystem.makedirs(self.filesystem._parent(part), exist_ok=True)  # noqa: SLF001  # fsspec names no other
            self.filesystem.pipe_file(part, content)
            self.filesystem.mv(part, self.path(name))

    def put(self, name: str, path: Path) -> None:
        """Writes the file at `path` to storage without uploads in parts: whole or not at all."""
        with self._translated("write", name):
            part = f"{self.path(name)}.part"
            self.filesystem.makedirs(self.filesystem._parent(part), exist_ok=True)  # noqa: SLF001  # fsspec names no other
            self.filesystem.put_file(str(path), part)
            self.filesystem.mv(part, self.path(name))

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with self._translated("remove", name):
            try:
                self.filesystem.rm_file(self.path(name))
            except FileNotFoundError:
                return

    def call(self, method: str, name: str, **arguments: Any) -> Any:
        """Returns the answer to one call of the S3 API for the file `name`."""
        bucket, _, key = self.path(name).partition("/")
        with self._translated("write", name):
            return self.filesystem.call_s3(method, Bucket=bucket, Key=key, **arguments)

    def call_bucket(self, method: str, name: str, **arguments: Any) -> Any:
        """Returns the answer to one call of the S3 API for the names that begin with `name`."""
        bucket, _, key = self.path(name).partition("/")
        with self._translated("list", name):
            return self.filesystem.call_s3(method, Bucket=bucket, Prefix=key, **arguments)

    def path(self, name: str) -> str:
        """Returns the path of a file as the file system names it."""
        return f"{self._root.rstrip('/')}/{name}"

    @property
    def has_parts(self) -> bool:
        """Whether large files are uploaded in parts, as S3 does."""
        return self.address.scheme in _S3

    @cached_property
    def filesystem(self) -> Any:
        """The file system of fsspec."""
        try:
            import fsspec
        except ModuleNotFoundError as error:
            raise _missing(error) from error
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        options = _s3_options() if self.has_parts else {}
        try:
            return fsspec.filesystem(self.address.scheme, use_listings_cache=False, **options)
        except ImportError as error:
            raise _missing(error) from error
        except ValueError as error:
            raise BadParams(
                f"{self} cannot be opened: fsspec knows no storage '{self.address.scheme}'."
            ) from error

    @cached_property
    def _root(self) -> str:
        return str(self.filesystem._strip_protocol(self.address.url))  # noqa: SLF001  # fsspec names no other

    def _check_bucket(self) -> None:
        """Raises `FileNotFoundError` if the bucket itself is absent."""
        if self.has_parts:
            self.filesystem.call_s3("head_bucket", Bucket=self._root.partition("/")[0])

    @contextmanager
    def _translated(self, what: str, name: str = "") -> Iterator[None]:
        """Turns the errors of fsspec and of its file systems into ours."""
        file = f"{self}/{name}" if name else str(self)
        errors: tuple[type[Exception], ...] = (OSError, *_foreign_errors(self.filesystem))
        try:
            yield
        except FileNotFoundError as error:
            raise MissingInput(
                f"{file} is absent, or its bucket is. Check the URL and AWS_ENDPOINT_URL, or make the "
                "bucket. `python -m curation push URL` writes a build there."
            ) from error
        except PermissionError as error:
            raise self._denied(what, file, error) from error
        except errors as error:
            if "credential" in str(error).lower() or _is_refusal(error):
                raise self._denied(what, file, error) from error
            raise StorageUnreachable(
                f"Could not {what} {file}: {_line(error)}. The server is busy or out of reach. What is "
                "finished is kept: run the same command again later, or check AWS_ENDPOINT_URL."
            ) from error

    def _denied(self, what: str, file: str, error: Exception) -> StorageDenied:
        return StorageDenied(
            f"The storage refuses to {what} {file}: {_line(error)}. "
            + (
                f"The credentials are those of {KEY_ID} and {SECRET} in the environment: correct them, or "
                "let the owner of the storage allow it."
                if os.environ.get(KEY_ID)
                else f"The environment holds no credentials: set {KEY_ID} and {SECRET}."
            )
        )


def _s3_options() -> dict[str, Any]:
    """Returns what the file system is opened with, all of it from the environment."""
    key, secret = os.environ.get(KEY_ID), os.environ.get(SECRET)
    if bool(key) != bool(secret):
        raise StorageDenied(
            f"The environment has only one of {KEY_ID} and {SECRET}. Set both, or none for a public "
            "bucket."
        )
    endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS)), None)
    if endpoint and "@" in endpoint:
        raise BadParams("AWS_ENDPOINT_URL holds an @. Give the address of the server alone.")
    return {
        "anon": not key,
        "key": key,
        "secret": secret,
        "token": os.environ.get(_TOKEN),
        "endpoint_url": endpoint,
        "client_kwargs": {},  # fsspec would take them from its own files
        # Readers compare a SHA-256. Some servers send the checksum of a file with a range of it.
        "config_kwargs": {"response_checksum_validation": "when_required"},
    }


def _foreign_errors(filesystem: Any) -> tuple[type[Exception], ...]:
    """Returns the errors of other libraries that a file system passes on."""
    if "s3" not in filesystem.protocol:
        return ()
    from botocore.exceptions import BotoCoreError, ClientError
    from s3fs.core import S3_RETRYABLE_ERRORS

    return BotoCoreError, ClientError, *S3_RETRYABLE_ERRORS


def _is_refusal(error: Exception) -> bool:
    """Returns whether a server of S3 refuses the request itself, so that repeating it would not help."""
    response = getattr(error.__cause__, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return 400 <= status < 500 and status not in _LATER


def _missing(error: ImportError) -> MissingPackage:
    return MissingPackage(
        f"Storage by URL needs a package that is not installed ({_line(error)}). For s3 URLs, install "
        "the extra:\n  pip install 'personae[s3]'"
    )


def _line(error: Exception) -> str:
    """Returns the message of an error in one line without a full stop."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:300].rstrip(".")
