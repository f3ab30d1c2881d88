"""
What can go wrong in the scraper, ordered by what the caller does about it.

ScraperError
├── TransientError   (retried)
│   ├── RateLimited
│   ├── SiteUnavailable
│   └── ConnectionLost
├── RequestRefused   (not retried)
│   ├── PageLimitReached
│   ├── TagLimitReached
│   ├── NotFound
│   └── NotAuthorised
├── CorruptImage     (skipped: becomes a decision)
├── Unfinished       (stops; run again to go on)
├── UnexpectedResponse   (stops)
├── MissingInput     (stops; a file of an earlier stage is absent)
├── MissingColumn    (stops; a table lacks a column that the reader states)
└── BadParams        (stops)
"""


class ScraperError(Exception):
    """Everything that the scraper raises on purpose; `exit_code` is what the command returns."""

    exit_code = 5


class BadParams(ScraperError):
    """A parameter is unknown, ill-typed or out of range."""

    exit_code = 2


class MissingInput(ScraperError):
    """A file that an earlier stage writes is absent or unreadable."""


class MissingColumn(ScraperError):
    """A table lacks a column that its reader states."""
