"""
Writes files whole or not at all: to a temporary name in the same folder, synced, then renamed.

Also the lock that keeps two processes from writing into one folder.
"""

import errno
import fcntl
import json
import os
import shutil
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from personae import stages
from personae.errors import AlreadyRunning, DiskRefused, MissingInput

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the system that mean a full disk, a quota or a limit on the size of a file."""
# What `flock` answers when another process holds the lock, and nothing else.
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


@contextmanager
def whole_file(path: Path, *, newline: str | None = None, text: bool = False) -> Iterator[IO[Any]]:
    """
    Opens `path` for writing; the file appears under its name only when the block ends.

    Args:
        path: Final name; its folder is made when absent. Bytes go to `path` + `.part` first.
        newline: As in `open`; for text.
        text: Whether the file takes text (UTF-8) instead of bytes.

    If the block raises, nothing is written at `path`; an older file there stays. After the block
    the bytes and the folder are synced, so that the file survives a loss of power. A device or a
    pipe is written to and never replaced.

    Raises:
        IsADirectoryError: `path` is a folder.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    make_folder(path.parent)
    encoding = "utf-8" if text else None
    if path.exists() and not path.is_file():
        with path.open("w" if text else "wb", encoding=encoding, newline=newline) as file:
            yield file
        return
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w" if text else "wb", encoding=encoding, newline=newline) as file:
            yield file
        publish(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_ROOM and error.filename is None:
            error.filename = str(path)  # a write that fails does not name its file
        raise


def make_folder(folder: Path) -> None:
    """Makes `folder` and the absent folders above it, so that they survive a loss of power."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def check_writable(folder: Path) -> None:
    """
    Makes sure, before long work, that `folder` can be written or made; changes nothing.

    Raises:
        OSError: It cannot; the error names `folder`.
    """
    nearest = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        # Only the system knows: root may write to any folder, but not on a read-only disk.
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        error.filename = str(folder)
        raise


def publish(part: Path, path: Path) -> None:
    """Syncs the finished file `part`, renames it to `path`, and syncs the folder."""
    _sync(part)
    part.replace(path)
    _sync(path.parent)


def remove(path: Path) -> None:
    """Removes `path`, if it is there, so that it does not return after a loss of power."""
    if path.exists() or path.is_symlink():
        path.unlink()
        _sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` to `path`, whole or not at all."""
    with whole_file(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Writes `content` to `path` as UTF-8, whole or not at all."""
    with whole_file(path, text=True) as file:
        file.write(content)


def write_json(path: Path, document: Any) -> None:
    """Writes `document` as JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_range(path: Path, offset: int, size: int) -> bytes:
    """Returns `size` bytes of a file, none where it ends before they do; raises `OSError`."""
    # Opened for each image: a data set may have more shards than a process open files.
    handle = os.open(path, os.O_RDONLY)
    try:
        # Checked before memory is taken: a table from elsewhere may claim any size.
        is_whole = 0 <= offset <= offset + size <= os.fstat(handle).st_size
        return os.pread(handle, size, offset) if is_whole else b""
    finally:
        os.close(handle)


def check_regular(path: Path) -> None:
    """
    Refuses a pipe, which waits for its writer, and a device, which may have no end.

    Raises:
        OSError: There is something at `path` that is no regular file, nor a link to one.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no regular file", str(path))


def read_json(path: Path, *, stage: str) -> dict[str, Any]:
    """
    Returns the JSON mapping in `path`.

    Args:
        path: A file of an earlier stage.
        stage: The stage that writes the file, named in the messages.

    Raises:
        MissingInput: The file is absent, unreadable, or holds no mapping.
    """
    try:
        check_regular(path)
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise stages.absent(path, stage) from error
    except (OSError, ValueError, RecursionError) as error:
        raise MissingInput(
            f"{path} is no readable JSON ({error}). Stage '{stage}' writes it: run stage "
            f"'{stage}' again."
        ) from error
    if not isinstance(document, dict):
        raise MissingInput(
            f"{path} holds no JSON mapping. Stage '{stage}' writes it: run stage '{stage}' again."
        )
    return document


def own(path: Path) -> None:
    """
    Makes `path` a file that no other name leads to: a linked file is replaced by a copy.

    DVC may link the files of a workspace to its cache, by hard or symbolic links, and protects them
    from writing. Whoever changes such a file in place would change the cache. An absent file stays
    absent.
    """
    if path.is_symlink() or (path.exists() and path.stat().st_nlink > 1):
        part = path.with_name(path.name + ".part")
        shutil.copyfile(path, part)
        publish(part, path)


@contextmanager
def locked(folder: Path, *, target: Path | None = None) -> Iterator[None]:
    """
    Holds `folder` for this process until the block ends or the process does; as `lock`.

    Raises:
        AlreadyRunning: Another process holds the folder.
    """
    handle = lock(folder, target=target)
    try:
        yield
    finally:
        os.close(handle)


def lock(folder: Path, *, target: Path | None = None) -> int:
    """
    Locks `folder`, which is made when absent, and returns the handle whose closing unlocks it.

    The lock is one of the operating system (`flock`), so it ends with the process, however that
    ends. No lock file is left: the folder itself is locked. `target` is the folder that the lock
    protects and the message names, where that is another one.

    Raises:
        AlreadyRunning: Another process holds the folder.
        DiskRefused: The file system has no locks, as some network shares.
    """
    make_folder(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno not in _HELD:
            raise DiskRefused(
                f"{folder} cannot be locked ({error.strerror}). Its file system offers no locks, as "
                "some network shares do not. Use a folder on a local disk, or mount the share with "
                "locks."
            ) from error
        raise AlreadyRunning(
            f"Another run is writing to {target or folder}{_holder(folder)}. Two runs would destroy each "
            "other's files. Wait until it ends, or stop it, and run the same command again."
        ) from error
    return handle


def _holder(folder: Path) -> str:
    """Returns command and process id of the process that locks `folder`; empty where unknown."""
    inode = str(folder.stat().st_ino)
    try:
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            # 1: FLOCK  ADVISORY  WRITE 16208 fe:00:3900330 0 EOF (proc_locks(5))
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
                command = Path(f"/proc/{fields[4]}/cmdline").read_text("utf-8", "replace")
                words = (" ".join(word.split()) for word in command.split("\0") if word)
                text = " ".join(textwrap.shorten(word, 120, placeholder="…") for word in words)
                return f": {text[:400]} (process {fields[4]})"
    except (OSError, ValueError, IndexError):  # no such file: another system than Linux
        return ""
    return ""


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(handle)
