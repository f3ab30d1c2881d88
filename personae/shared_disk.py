"""
The disk that all nodes of a cluster share: a task works in the folder of the command that sent it.

So relative paths of a specification mean the same everywhere. A task on a node that does not see the
files of the others fails before it reads or writes anything else.
"""

import os
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from personae import files
from personae.errors import MissingInput

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class WorkingFolder:
    """Where the command runs, as its tasks get it."""

    folder: str
    """Current folder of the command."""
    mark: str
    """Path of an empty file that exists while the command works."""


@contextmanager
def marked(folder: Path) -> Iterator[WorkingFolder]:
    """Makes a file in `folder` until the block ends, by which tasks know the disk."""
    files.make_folder(folder)
    mark = folder.resolve() / f".{uuid.uuid4().hex}"
    mark.touch()
    try:
        yield WorkingFolder(str(Path.cwd()), str(mark))
    finally:
        mark.unlink(missing_ok=True)


def import_folders() -> list[str]:
    """Returns the folders from which this process imports, without Python's own."""
    folders = (str(Path(folder).resolve()) for folder in sys.path)
    of_python = (sys.prefix, sys.base_prefix)
    return [folder for folder in folders if not folder.startswith(of_python)]


def work(working: WorkingFolder, function: Callable[[ItemT], ResultT], item: ItemT) -> ResultT:
    """
    Returns `function(item)`, computed in the folder of the command.

    Raises:
        MissingInput: This node does not see the marked folder or the folder of the command.
    """
    for path in (Path(working.mark), Path(working.folder)):
        if not path.exists():
            raise MissingInput(
                f"Node {socket.gethostname()} does not see {path}, which the machine of the command has. "
                "All nodes need one shared disk under the same path."
            )
    os.chdir(working.folder)
    return function(item)
