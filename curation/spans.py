"""Byte ranges of stored images, read out of large files and checked by their sha256."""

import hashlib
import os
import re
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from curation.errors import TamperedData
from personae.errors import MissingInput

_MOST_OPEN = 16  # a data set has thousands of tars; some systems allow a process 64 open files
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")


class SpanReader:
    """
    Reads images by file name, offset and size; a context that closes its files.

    The table may have been made by anyone: a name is never a path, and a size is compared with the
    file before memory is taken.

    Args:
        folder: Folder of the files.
        stage: Stage that writes the files, named in the messages.
        table: Table that records offset, size and sha256, named in the messages.
        remedy: What to do when an image does not have its sha256.
    """

    def __init__(self, folder: Path, *, stage: str, table: str, remedy: str) -> None:
        self._folder, self._stage, self._table, self._remedy = folder, stage, table, remedy
        self._open: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def read(
        self, post_id: int, name: str, *, offset: int, size: int, sha256: str | None = None
    ) -> bytes:
        """
        Returns the `size` bytes of a post's image at byte `offset` of the file `name`.

        Without a `sha256`, only the number of bytes is checked.

        Raises:
            MissingInput: The file cannot be opened.
            TamperedData: The bytes do not have the sha256 of the table, or there are fewer.
        """
        data = b""
        # A table that was changed may have empty values, or values of another type.
        is_position = isinstance(name, str) and isinstance(offset, int) and isinstance(size, int)
        if is_position and _PLAIN_NAME.fullmatch(name) and offset >= 0 and size >= 0:
            descriptor = self._descriptor(name)
            if offset + size <= os.fstat(descriptor).st_size:
                data = os.pread(descriptor, size, offset)
        is_whole = len(data) == size
        if not is_whole or sha256 not in (None, hashlib.sha256(data).hexdigest()):
            what = "sha256" if sha256 else "bytes"
            raise TamperedData(
                f"The image of post {post_id} at byte {offset} of {name} does not have the {what} "
                f"that {self._table} records: one of the two files was changed or cut. "
                f"{self._remedy}"
            )
        return data

    def _descriptor(self, name: str) -> int:
        if name in self._open:
            return self._open[name]
        if len(self._open) >= _MOST_OPEN:
            os.close(self._open.pop(next(iter(self._open))))
        path = self._folder / name
        try:
            # Opening a pipe would wait for its writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise MissingInput(
                f"{path} cannot be opened: {error.strerror}. Stage '{self._stage}' writes it: run "
                "that stage again."
            ) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise MissingInput(
                f"{path} is no regular file. Stage '{self._stage}' writes it: run that stage again."
            )
        self._open[name] = descriptor
        return descriptor
