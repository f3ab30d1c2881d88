"""
What can go wrong in curation.

CurationError
├── TooFewSamples
├── LeakingSplit
└── TamperedData       (a hash or an offset does not hold)

Errors that the packages share are in personae/errors.py.
"""

from personae.errors import PersonaeError


class CurationError(PersonaeError):
    """Everything that curation raises on purpose; `exit_code` is what the command returns."""


class TooFewSamples(CurationError):
    """A label has fewer samples than the parameters require."""


class LeakingSplit(CurationError):
    """Images of different splits are duplicates by their hashes."""


class TamperedData(CurationError):
    """A stored file does not match its recorded hash, size or offset."""
