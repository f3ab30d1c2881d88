"""
What can go wrong in every package, and the exit code of each kind of failure.

PersonaeError
├── BadParams        (2: a parameter or an option is unknown, ill-typed or out of range)
├── MissingInput     (5: a file of an earlier stage is absent or unreadable)
│   ├── BadDocument      (5: a JSON document has another version or shape)
│   └── BadTable         (5: a column of a table has another type, or empty values)
├── UnreadableImage  (5: the bytes of an image cannot be decoded; a stage makes it a decision)
├── MissingColumn    (5: a table lacks a column that its reader states)
├── BadShard         (5: a shard is damaged or disagrees with the manifest)
├── MissingPackage   (5: an optional package is not installed)
├── BadStorage       (5: a file at a URL has other bytes than its index says)
├── StorageDenied    (2: a storage refuses the credentials of the environment)
├── StorageUnreachable (3: a storage does not answer, or its server has a fault)
├── BadQuery         (2: SQL that the catalog does not answer)
├── AlreadyRunning   (3: another process holds the folder or the file)
├── DiskRefused      (3: the disk is full, or the folder may not be written)
├── WorkerLost       (3: a process or a node that worked for the command was lost)
├── ScraperError     (scraper/errors.py)
├── CurationError    (curation/errors.py)
└── TrainError       (train/errors.py)
"""

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of all three commands."""

    DONE = 0
    USAGE = 2
    UNFINISHED = 3
    POLICY = 4
    BAD_DATA = 5

    @property
    def meaning(self) -> str:
        """What the code tells the caller."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.DONE: "done",
    Exit.USAGE: "wrong usage, parameter or query",
    Exit.UNFINISHED: "unfinished but resumable",
    Exit.POLICY: "stopped by the board's policy",
    Exit.BAD_DATA: "bad or missing data",
}

EXIT_HELP = "exit codes: " + ", ".join(f"{code} {text}" for code, text in _MEANINGS.items())
"""The last line of every command's help."""


class PersonaeError(Exception):
    """Every error that the packages raise on purpose; `exit_code` is what the command returns."""

    exit_code = Exit.BAD_DATA


class BadParams(PersonaeError):
    """A parameter or an option is unknown, ill-typed or out of range."""

    exit_code = Exit.USAGE


class MissingInput(PersonaeError):
    """A file that an earlier stage writes is absent or unreadable."""


class MissingColumn(PersonaeError):
    """A table lacks a column that its reader states."""


class BadShard(PersonaeError):
    """A shard is damaged, or disagrees with the manifest."""


class MissingPackage(PersonaeError):
    """A package that only some commands need is not installed, or cannot be imported."""


class BadStorage(PersonaeError):
    """A file at a URL has other bytes than the index there says."""


class StorageDenied(PersonaeError):
    """A storage refuses the credentials of the environment, or there are none."""

    exit_code = Exit.USAGE


class StorageUnreachable(PersonaeError):
    """A storage does not answer, or its server has a fault; what is finished is kept."""

    exit_code = Exit.UNFINISHED


class BadQuery(PersonaeError):
    """The catalog refuses a query: its SQL is wrong, or it does more than read."""

    exit_code = Exit.USAGE


class BadDocument(MissingInput):
    """A JSON document has another version or another shape than its reader expects."""


class BadTable(MissingInput):
    """A column of a table has another type than its reader expects, or empty values."""


class UnreadableImage(PersonaeError):
    """
    The bytes of one post cannot be decoded; `reason` is the reason code of its decision.

    `measured` and `threshold` are the numbers that were compared, None if none were.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        measured: float | None = None,
        threshold: float | None = None,
    ) -> None:
        super().__init__(f"No image could be read ({reason}): {detail}.")
        self.reason = reason
        self.detail = detail
        self.measured = measured
        self.threshold = threshold


class AlreadyRunning(PersonaeError):
    """Another process holds the folder or the file: two would destroy each other's work."""

    exit_code = Exit.UNFINISHED


class DiskRefused(PersonaeError):
    """The disk is full, or the folder may not be written; what was recorded before is kept."""

    exit_code = Exit.UNFINISHED


class WorkerLost(PersonaeError):
    """A process or a node that worked for the command was lost; finished work is kept."""

    exit_code = Exit.UNFINISHED
