"""
What can go wrong in the scraper, ordered by what the caller does about it.

ScraperError
├── TransientError   (retried; when it lasts, the run ends and is resumable)
│   ├── RateLimited
│   ├── SiteUnavailable
│   └── ConnectionLost
├── RequestRefused   (not retried)
│   ├── PageLimitReached
│   ├── TagLimitReached
│   ├── QueryTimedOut    (asked again with a smaller page)
│   ├── NotFound
│   ├── NotAuthorised    (stops: credentials, or a challenge instead of an answer)
│   ├── ForeignHost      (refused by us: an address off the allow-list)
│   └── TooLarge         (refused by us: more bytes than the cap)
├── CorruptImage     (skipped: becomes a decision)
├── Unfinished       (stops; run again to go on)
├── DamagedLedger    (stops; the record of what is stored cannot be read)
├── UnexpectedResponse   (stops)
├── NothingStored    (stops; every image was refused)
└── BadFolder        (stops; a folder of labelled images contradicts itself)

Errors that the packages share are in personae/errors.py.
"""

from personae.errors import Exit, PersonaeError


class ScraperError(PersonaeError):
    """Everything that the scraper raises on purpose; `exit_code` is what the command returns."""


class NothingStored(ScraperError):
    """Every image asked for was refused: there is nothing to go on with."""


class BadFolder(ScraperError):
    """A folder of labelled images is not what its index says, or leads outside."""


class TransientError(ScraperError):
    """
    A request that may succeed later: the client repeats it a bounded number of times.

    `wait_seconds` is what the server asked for (Retry-After), where it did.
    """

    exit_code = Exit.UNFINISHED

    def __init__(
        self,
        message: str,
        *,
        url: str = "",
        status: int | None = None,
        wait_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.url = url
        self.status = status
        self.wait_seconds = wait_seconds


class RateLimited(TransientError):
    """The server said 429: too many requests."""


class SiteUnavailable(TransientError):
    """The server answered 5xx."""


class ConnectionLost(TransientError):
    """No answer, or not a whole one: reset, time-out, cut body."""


class RequestRefused(ScraperError):
    """A request that will not succeed however often it is repeated."""

    exit_code = Exit.POLICY

    def __init__(self, message: str, *, url: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.url = url
        self.status = status


class PageLimitReached(RequestRefused):
    """410: numbered pages end; pages by id do not."""


class TagLimitReached(RequestRefused):
    """422: the search counts more terms than the account may use."""


class QueryTimedOut(RequestRefused):
    """500 `QueryCanceled`: the database gave the search up; a smaller page may pass."""


class NotFound(RequestRefused):
    """404, or 410 for a file: gone."""


class NotAuthorised(RequestRefused):
    """401 or 403, or a challenge page: the board does not want this client."""


class ForeignHost(RequestRefused):
    """An address, or a redirect, to a host that is not on the site's list."""


class TooLarge(RequestRefused):
    """A body of more bytes than the cap."""


class CorruptImage(ScraperError):
    """A file that arrives cut short again and again, or is not what the board listed."""


class Unfinished(ScraperError):
    """The work stopped before its end and goes on when the command is run again."""

    exit_code = Exit.UNFINISHED


class UnexpectedResponse(ScraperError):
    """An answer that does not have the shape of the API."""


class DamagedLedger(ScraperError):
    """The record of what is stored cannot be read."""
