"""
The errors of the scraper, ordered by what the caller does about them.

ScraperError
├── TransientError   (retried; when it lasts, the run ends and is resumable)
│   ├── RateLimited
│   ├── SiteUnavailable
│   ├── EmptyPage        (an empty page where the board counts more posts)
│   └── ConnectionLost
│       ├── CutShort
│       └── BrokenJson
│           └── EmptyBody
├── RequestRefused   (not retried)
│   ├── PageLimitReached
│   ├── TagLimitReached
│   ├── QueryTimedOut    (repeated with a smaller page)
│   ├── NotFound
│   ├── OddAnswer        (a status or an encoding that no file has)
│   ├── BadCertificate   (stops: somebody may stand between)
│   ├── NotAuthorised    (stops: credentials, or a challenge instead of JSON)
│   │   ├── Challenged   (stops at once: a proxy takes the client for a bot)
│   │   └── ForeignPage  (HTML of status 200: a challenge, or a login page of a network)
│   ├── ForeignHost      (refused by us: an address off the allow-list)
│   │   └── ForeignRedirect (an answer leads off the list, as a login page of a network does)
│   └── TooLarge         (refused by us: more bytes than the cap)
├── CorruptImage     (skipped: becomes a decision)
├── Unfinished       (stops; run again to continue)
│   └── DailyBudgetSpent (the user's own limit of requests a day)
├── DamagedLedger    (stops; the record of what is stored cannot be read)
├── UnexpectedResponse   (stops)
│   └── UnreadablePage   (one response that cannot be parsed: a smaller page may pass)
│       └── EmptyResponse (no byte at every try: a network may be at fault)
├── NothingStored    (stops; every image was refused)
├── BadDump          (stops; a dump of metadata cannot be read)
└── BadFolder        (stops; a folder of labelled images is inconsistent)

Errors that the packages share are in personae/errors.py.
"""

from personae.errors import Exit, PersonaeError


class ScraperError(PersonaeError):
    """Base of the scraper's errors; `exit_code` is what the command returns."""


class NothingStored(ScraperError):
    """Every image was refused: the next stage would have no input."""


class BadFolder(ScraperError):
    """A folder of labelled images disagrees with its index, or leads outside."""


class BadDump(ScraperError):
    """A dump of metadata cannot be read, or has no row that passes the rules."""


class TransientError(ScraperError):
    """
    A request that may succeed later: the client repeats it a bounded number of times.

    `wait_seconds` is the server's Retry-After in seconds, None without one.
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
    """The server answered 429: too many requests."""


class SiteUnavailable(TransientError):
    """The server answered 5xx."""


class EmptyPage(TransientError):
    """A search ends with an empty page although the board counts further posts."""


class ConnectionLost(TransientError):
    """No response, or not a whole one: reset, time-out, cut body."""


class CutShort(ConnectionLost):
    """A body that ended before its end; for a file, the file itself may be the reason."""


class BrokenJson(ConnectionLost):
    """A body of content type JSON that cannot be parsed: most often one that was cut short."""


class EmptyBody(BrokenJson):
    """A body without a byte, of any content type."""


class RequestRefused(ScraperError):
    """A request that fails however often it is repeated."""

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
    """500 `QueryCanceled`: the search timed out in the database; a smaller page may pass."""


class NotFound(RequestRefused):
    """404, or 410 for a file: gone."""


class NotAuthorised(RequestRefused):
    """401 or 403, or a challenge page: the board refuses this client."""


class Challenged(NotAuthorised):
    """A proxy before the board asks the client to prove that it is no bot."""


class ForeignPage(NotAuthorised):
    """An HTML page of status 200 where JSON belongs. A network may be at fault."""

    exit_code = Exit.UNFINISHED


class OddAnswer(RequestRefused):
    """An answer of the file host that no file has: an unexpected status or encoding."""


class BadCertificate(RequestRefused):
    """The certificate of the host is not valid: nothing was sent. A network may be at fault."""

    exit_code = Exit.UNFINISHED


class ForeignHost(RequestRefused):
    """An address to a host that is not on the site's list."""


class ForeignRedirect(ForeignHost):
    """A redirect to a host that is not on the site's list. A network may be at fault."""

    exit_code = Exit.UNFINISHED


class TooLarge(RequestRefused):
    """A body of more bytes than the cap; `size` is the announced length, else what had arrived."""

    def __init__(
        self, message: str, *, size: int, url: str = "", is_announced: bool = True
    ) -> None:
        super().__init__(message, url=url)
        self.size = size
        self.is_announced = is_announced


class CorruptImage(ScraperError):
    """A file that arrives cut short again and again, or is not what the board listed."""


class Unfinished(ScraperError):
    """The work stopped before its end and continues when the command runs again."""

    exit_code = Exit.UNFINISHED


class DailyBudgetSpent(Unfinished):
    """The requests of this UTC day are used up (`site.daily_requests`)."""


class UnexpectedResponse(ScraperError):
    """A response that does not have the shape of the API."""


class UnreadablePage(UnexpectedResponse):
    """A response of the API that cannot be parsed at every try, or is far too long."""


class EmptyResponse(UnreadablePage):
    """A response of the API that is empty at every try. A network may be at fault."""

    exit_code = Exit.UNFINISHED


class DamagedLedger(ScraperError):
    """The record of what is stored cannot be read."""
