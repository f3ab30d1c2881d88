"""
Observes the operations of this process on files, records and sockets, each before and after it.

An observer may kill the process there, or let the operation fail. The functions of the operating
system that Python code calls are replaced, for the rest of the process: use it in a forked child.
SQLite is observed at its statements and commits, and pyarrow where it writes to a file of Python.
"""

import builtins
import errno
import io
import os
import socket
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ERRORS: Final[dict[str, tuple[str, ...]]] = {
    "open": ("EMFILE", "EACCES"),
    "create": ("EACCES", "ENOSPC"),
    "read": ("EIO",),
    "write": ("EIO", "ENOSPC"),
    "fsync": ("EIO", "ENOSPC"),
    "rename": ("EIO", "ENOSPC"),
    "truncate": ("EIO", "EROFS"),
    "unlink": ("EIO", "EROFS"),
    "mkdir": ("ENOSPC", "EROFS"),
    "connect": ("ECONNREFUSED", "EMFILE"),
    "receive": ("ECONNRESET",),
    "database": ("SQLITE_CANTOPEN",),
    "statement": ("SQLITE_IOERR_READ", "SQLITE_FULL"),
    "commit": ("SQLITE_IOERR_FSYNC", "SQLITE_FULL"),
}
"""Kinds of operations, and the errors that each may end with."""
KINDS_THAT_CHANGE: Final = (
    "create",
    "write",
    "fsync",
    "rename",
    "truncate",
    "unlink",
    "mkdir",
    "database",
    "commit",
)
"""Kinds after which the disk differs, or may."""
_SQLITE_TEXTS = {
    "SQLITE_CANTOPEN": "unable to open database file",
    "SQLITE_IOERR_READ": "disk I/O error",
    "SQLITE_IOERR_FSYNC": "disk I/O error",
    "SQLITE_FULL": "database or disk is full",
}


_open_file = io.open


@dataclass(frozen=True, slots=True)
class Operation:
    """One moment of an operation."""

    when: str
    """`before`, `torn` (half of a write is done) or `after`."""
    kind: str
    """A key of `ERRORS`."""
    name: str
    """Path below the observed folder; empty for a socket."""

    def __str__(self) -> str:
        return f"{self.when} {self.kind} {self.name}".rstrip()


Observer = Callable[[Operation, Path], None]
"""Called with each operation and its path; it may raise, or end the process."""


def error(name: str, path: Path) -> Exception:
    """Returns the exception of an error of `ERRORS`, as the failing operation would raise it."""
    if name.startswith("SQLITE"):
        failure = sqlite3.OperationalError(_SQLITE_TEXTS[name])
        failure.sqlite_errorname = name
        failure.sqlite_errorcode = getattr(sqlite3, name)
        return failure
    number = getattr(errno, name)
    return OSError(number, os.strerror(number), str(path))


def observe(root: Path, observer: Observer) -> None:
    """Calls `observer` at every operation on files below `root`, and on sockets."""
    _Observed(root.resolve(), observer).install()


class _Observed:
    """The replaced functions; files outside `root` are left alone."""

    def __init__(self, root: Path, observer: Observer) -> None:
        self._root = root
        self._observer = observer
        # Threads wait for each other, so that an observer sees the disk at rest.
        self._turn = threading.RLock()

    def install(self) -> None:
        """Replaces the functions of the operating system for this process."""
        io.open = builtins.open = self._open  # type: ignore[assignment]
        os.open = self._around(os.open, "open")  # type: ignore[assignment]
        os.fsync = self._around(os.fsync, "fsync")  # type: ignore[assignment]
        os.replace = self._around(os.replace, "rename", 1)  # type: ignore[assignment]
        os.rename = self._around(os.rename, "rename", 1)  # type: ignore[assignment]
        os.truncate = self._around(os.truncate, "truncate")  # type: ignore[assignment]
        os.unlink = os.remove = self._around(os.unlink, "unlink")  # type: ignore[assignment]
        os.mkdir = self._around(os.mkdir, "mkdir")  # type: ignore[assignment]
        connect, receive, receive_into = (
            getattr(socket.socket, name) for name in ("connect", "recv", "recv_into")
        )
        socket.socket.connect = self._socket(connect, "connect")  # type: ignore[method-assign]
        socket.socket.recv = self._socket(receive, "receive")  # type: ignore[method-assign]
        socket.socket.recv_into = self._socket(receive_into, "receive")  # type: ignore[method-assign]
        sqlite3.connect = self._connect  # type: ignore[assignment]

    def at(self, when: str, kind: str, path: Path) -> None:
        """Calls the observer with an operation on `path`."""
        name = str(path.relative_to(self._root)) if path != self._root else "."
        with self._turn:
            self._observer(Operation(when, kind, name), path)

    def path(self, file: Any) -> Path | None:
        """Returns the path of a name or a file descriptor, or None outside the folder."""
        if isinstance(file, int):
            file = Path(f"/proc/self/fd/{file}").readlink()
        path = Path(os.path.abspath(os.fsdecode(file)))  # noqa: PTH100  # links are not followed
        return path if path.is_relative_to(self._root) else None

    def _around(self, function: Any, kind: str, argument: int = 0) -> Any:
        def replaced(*arguments: Any, **keywords: Any) -> Any:
            path = None if keywords.get("dir_fd") is not None else self.path(arguments[argument])
            if path is None:
                return function(*arguments, **keywords)
            self.at("before", kind, path)
            result = function(*arguments, **keywords)
            self.at("after", kind, path)
            return result

        return replaced

    def _socket(self, function: Any, kind: str) -> Any:
        def replaced(*arguments: Any) -> Any:
            with self._turn:
                self._observer(Operation("before", kind, ""), Path())
            return function(*arguments)

        return replaced

    def _open(  # noqa: PLR0917  # as the built-in function
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *arguments: Any,
    ) -> Any:
        path = None if isinstance(file, int) else self.path(file)
        if path is None:
            return _open_file(file, mode, buffering, encoding, errors, newline, *arguments)
        kind = "open" if set(mode) <= set("rbt") else "create"
        self.at("before", kind, path)
        raw = _RawFile(path, mode.replace("b", "").replace("t", ""))
        raw.observed = self
        self.at("after", kind, path)
        if buffering == 0:
            return raw
        if raw.readable() and raw.writable():
            buffered: Any = io.BufferedRandom(raw)
        else:
            buffered = io.BufferedWriter(raw) if raw.writable() else io.BufferedReader(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def _connect(self, database: Any, *arguments: Any, **keywords: Any) -> sqlite3.Connection:
        name = str(database).removeprefix("file://").partition("?")[0]
        path = self.path(name)
        if path is None:
            return sqlite3.Connection(database, *arguments, **keywords)
        self.at("before", "database", path)
        rows = _Rows(database, *arguments, **keywords)
        rows.observed, rows.path = self, path
        self.at("after", "database", path)
        return rows


class _RawFile(io.FileIO):
    """A file whose reads and writes are observed."""

    observed: _Observed

    def _path(self) -> Path:
        return Path(str(self.name))

    def write(self, data: Any) -> int:
        path = self._path()
        self.observed.at("before", "write", path)
        content = bytes(data)
        half = len(content) // 2
        written = super().write(content[:half]) if half else 0
        if half:
            self.observed.at("torn", "write", path)
        written += super().write(content[half:])
        self.observed.at("after", "write", path)
        return written

    def readinto(self, buffer: Any) -> int:
        self.observed.at("before", "read", self._path())
        return super().readinto(buffer)

    def readall(self) -> bytes:
        self.observed.at("before", "read", self._path())
        return super().readall()

    def read(self, size: int | None = -1) -> bytes:
        self.observed.at("before", "read", self._path())
        return super().read(-1 if size is None else size)

    def truncate(self, size: int | None = None) -> int:
        self.observed.at("before", "truncate", self._path())
        result = super().truncate(size)
        self.observed.at("after", "truncate", self._path())
        return result


class _Rows(sqlite3.Connection):
    """A database whose statements and commits are observed."""

    observed: _Observed
    path: Path

    def _kind(self, sql: str) -> str:
        verb = sql.split(maxsplit=1)[0].upper()
        changes = verb in {"INSERT", "UPDATE", "DELETE", "CREATE", "REPLACE"} or "version =" in sql
        return (
            "commit" if verb == "COMMIT" or (changes and not self.in_transaction) else "statement"
        )

    def _run(self, kind: str, function: Any, *arguments: Any) -> Any:
        if not hasattr(self, "path"):
            return function(*arguments)
        self.observed.at("before", kind, self.path)
        result = function(*arguments)
        self.observed.at("after", kind, self.path)
        return result

    def execute(self, sql: str, *arguments: Any) -> Any:
        return self._run(self._kind(sql), super().execute, sql, *arguments)

    def executemany(self, sql: str, *arguments: Any) -> Any:
        return self._run(self._kind(sql), super().executemany, sql, *arguments)

    def executescript(self, sql: str) -> Any:
        return self._run("commit", super().executescript, sql)
