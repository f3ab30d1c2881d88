"""
What a loss of power leaves of a folder: names that were synced, with the bytes that were synced.

The model is the worst that POSIX allows: a name exists only when its folder was synced after it, and a
file has the bytes of its last sync. What was written later is absent, or reads as zeros where the file
system had made room already. SQLite syncs its own files at a commit; where it does not
(`synchronous = NORMAL`), its log is lost.
"""

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

from benchmarks.shared.operations import Observer, Operation

_DATABASE = ".sqlite"
_UNSYNCED_LOG = "listing/ledger.sqlite-wal"
"""The record that commits without a sync."""


class Durable:
    """
    Keeps in `kept` what of the folder `root` is on the disk for good; it is an observer.

    Args:
        root: The observed folder; what it holds now counts as synced.
        kept: An empty folder on the same machine.
        then: Called after each operation.
    """

    def __init__(self, root: Path, kept: Path, then: Observer) -> None:
        self._root, self._kept, self._then = root, kept, then
        self._entries: dict[int, dict[str, int]] = {}
        self._opened: set[Path] = set()
        self._held: set[int] = set()
        for folder, _, names in os.walk(root):
            for name in names:
                self._keep_bytes(Path(folder, name))
            self._keep_names(Path(folder))
        self._write()

    def __call__(self, operation: Operation, path: Path) -> None:
        if operation.when == "after":
            if operation.kind == "fsync" and not path.is_dir():
                self._keep_bytes(path)
            elif operation.kind == "fsync":
                self._keep_names(path)
                self._write()
            elif operation.kind == "database":
                self._opened.add(path)
            elif operation.kind == "commit" and path in self._opened:
                # With the first sync of its log, SQLite syncs the folder of the log.
                self._opened.remove(path)
                self._keep_names(path.parent)
                self._write()
        self._then(operation, path)

    def _keep_names(self, folder: Path) -> None:
        with os.scandir(folder) as entries:
            names = {entry.name: entry.inode() for entry in entries}
        for name, inode in names.items():
            if inode not in self._held:  # while it is open, no new file can have its number
                self._held.add(inode)
                os.open(folder / name, os.O_PATH)
        self._entries[folder.stat().st_ino] = names

    def _keep_bytes(self, path: Path) -> None:
        if _DATABASE not in path.name:
            shutil.copyfile(path, self._kept / str(path.stat().st_ino))

    def _write(self) -> None:
        (self._kept / "names").write_text(json.dumps(self._entries))


def cut(root: Path, kept: Path, *, zeros: bool) -> None:
    """
    Leaves in `root` what a loss of power would have left.

    Args:
        root: The folder that a killed process wrote to.
        kept: What `Durable` kept of it.
        zeros: Whether files have their last size, with zeros where nothing was synced.
    """
    entries = {
        int(number): names for number, names in json.loads((kept / "names").read_text()).items()
    }
    live = root.with_name(f"{root.name}.live")
    root.rename(live)
    by_inode = {path.stat().st_ino: path for path in (live, *live.rglob("*"))}
    _rebuild(live.stat().st_ino, root, by_inode, entries, kept, zeros=zeros)
    shutil.rmtree(live)
    if not zeros:
        (root / _UNSYNCED_LOG).unlink(missing_ok=True)


def _rebuild(  # the state of one recursion
    number: int,
    target: Path,
    by_inode: dict[int, Path],
    entries: dict[int, dict[str, Any]],
    kept: Path,
    *,
    zeros: bool,
) -> None:
    target.mkdir()
    for name, inode in entries.get(number, {}).items():
        source, synced = by_inode.get(inode), kept / str(inode)
        if source is not None and stat.S_ISDIR(source.stat().st_mode):
            _rebuild(inode, target / name, by_inode, entries, kept, zeros=zeros)
        elif _DATABASE in name:
            if source is not None:
                shutil.copyfile(source, target / name)
        else:
            content = synced.read_bytes() if synced.exists() else b""
            if zeros and source is not None:
                content = content.ljust(source.stat().st_size, b"\0")
            (target / name).write_bytes(content)
