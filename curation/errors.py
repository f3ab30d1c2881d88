"""
What can go wrong in curation.

CurationError
├── MissingInput       (a file of an earlier stage is absent)
├── MissingColumn      (a table lacks a column that the reader states)
├── UnreadableImage    (skipped: becomes a decision)
├── TooFewSamples
├── LeakingSplit
├── TamperedData       (a hash or an offset does not hold)
├── WorkerLost         (unfinished, but resumable)
├── DiskRefused        (full, or not writable: resumable)
├── BadQuery           (SQL that the catalog does not answer)
└── BadParams
"""


class CurationError(Exception):
    """Everything that curation raises on purpose; `exit_code` is what the command returns."""

    exit_code = 5


class BadParams(CurationError):
    """A parameter is unknown, ill-typed or out of range."""

    exit_code = 2


class MissingInput(CurationError):
    """A file that an earlier stage writes is absent or unreadable."""


class MissingColumn(CurationError):
    """A table lacks a column that its reader states."""


class UnreadableImage(CurationError):
    """The bytes of one image give no image; `reason` is the code that its decision carries."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"No image could be read ({reason}): {detail}.")
        self.reason = reason
        self.detail = detail


class TooFewSamples(CurationError):
    """A label has too few samples for what was asked of it."""


class LeakingSplit(CurationError):
    """Images too alike stand on different sides of the split."""


class TamperedData(CurationError):
    """A stored file does not match its recorded hash, size or offset."""


class WorkerLost(CurationError):
    """A worker process was killed; what other workers finished is kept for the next run."""

    exit_code = 3


class DiskRefused(CurationError):
    """The disk took no more bytes, or the folder may not be written."""

    exit_code = 3


class BadQuery(CurationError):
    """The catalog refuses a query: its SQL is wrong, or it asks for more than reading."""

    exit_code = 2
