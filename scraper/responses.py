"""
Turns a response of the board (status, headers, body) into a value or one of our errors.

Pure functions, for both HTTP clients. They decide whether a request is repeated, skipped or ends
the run. The statuses are those of Danbooru's API
(https://danbooru.donmai.us/wiki_pages/help:api).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_plus

from scraper.errors import (
    BrokenJson,
    Challenged,
    EmptyBody,
    ForeignPage,
    NotAuthorised,
    NotFound,
    OddAnswer,
    PageLimitReached,
    QueryTimedOut,
    RateLimited,
    RequestRefused,
    ScraperError,
    SiteUnavailable,
    TagLimitReached,
    UnexpectedResponse,
    UnreadablePage,
)
from scraper.ratelimit import retry_after

_LONGEST_QUOTE = 160
_CHALLENGES = (
    "Boards challenge programs that look like a browser or do not name who runs them, and addresses "
    "that sent too many requests. Set 'site.contact' to an address where the staff can reach you, "
    "lower the rates, and wait a day. Do not try to solve the challenge."
)
# The server says itself that the request may be repeated (RFC 9110, 15.5.9; RFC 8470, 5.2).
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}


@dataclass(frozen=True, slots=True)
class Response:
    """One response, read to its end (an error's body to its first part)."""

    url: str
    status: int
    headers: Mapping[str, str]
    """Looked up without regard to case."""
    body: bytes

    @property
    def where(self) -> str:
        """The address, readable and short."""
        return shown(self.url)

    @property
    def kind(self) -> str:
        """The media type, without parameters."""
        return self.headers.get("Content-Type", "").split(";")[0].strip().lower()

    @property
    def is_challenge(self) -> bool:
        """True for the page of a proxy that takes the client for a bot."""
        return "cf-mitigated" in self.headers or (
            self.kind == "text/html" and self.status == HTTPStatus.FORBIDDEN
        )

    @property
    def is_stop_signal(self) -> bool:
        """True for a challenge that a proxy declares; an HTML page may concern one file only."""
        return "cf-mitigated" in self.headers


def parse(response: Response) -> Any:
    """
    Returns the JSON of a response with status 200.

    Raises:
        ForeignPage: It is an HTML page: a challenge, or a login page of a network.
        UnexpectedResponse: Its content type is not JSON.
        UnreadablePage: The JSON is nested too deeply.
        EmptyBody: It is empty.
        BrokenJson: Its content type is JSON, and it cannot be parsed.
    """
    where: dict[str, Any] = {"url": response.url, "status": response.status}
    if not response.body:
        raise EmptyBody(f"{response.where} answered with an empty body.", **where)
    if response.kind == "text/html":
        raise ForeignPage(
            f"{response.where} answered {response.status} with an HTML page. It is a login page of a "
            "hotel's or a train's network: then run the same command again in another network. Or it "
            f"is a challenge. {_CHALLENGES}",
            **where,
        )
    if response.kind != "application/json":
        raise UnexpectedResponse(
            f"{response.where} answered with {quoted(response.kind) or 'no content type'} instead of "
            "JSON. The address is no Danbooru-style board: check 'site.name'."
        )
    try:
        return json.loads(response.body)
    except RecursionError as error:
        raise UnreadablePage(
            f"{response.where} answered with JSON nested too deeply. The board is broken or "
            "hostile. Check 'site.name'."
        ) from error
    except ValueError as error:
        raise BrokenJson(
            f"{response.where} answered with {len(response.body)} bytes that are no JSON ({error}); "
            "probably the body was cut short.",
            **where,
        ) from error


def refusal(response: Response, *, is_api: bool, now: datetime) -> ScraperError | None:
    """
    Returns the error that a response stands for, or None when it is status 200 and no challenge.

    Args:
        response: The response, not a redirect.
        is_api: Whether it comes from the API, or from the file host.
        now: The time against which a date in Retry-After counts.
    """
    status = response.status
    if status == HTTPStatus.OK or response.is_challenge:
        return _challenged(response) if response.is_challenge else None
    wait = retry_after(response.headers.get("Retry-After"), now=now)
    where: dict[str, Any] = {"url": response.url, "status": status}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(
            f"{response.where} answered 429: too many requests.", wait_seconds=wait, **where
        )
    name, message = _error(response)
    if name == "ActiveRecord::QueryCanceled":
        return QueryTimedOut(
            f"{response.where} answered {status}: the board's database gave the search up. "
            "Smaller pages may pass (`listing.page_size`).",
            **where,
        )
    is_passing = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING
    if is_passing and status != HTTPStatus.NOT_IMPLEMENTED:
        return SiteUnavailable(
            f"{response.where} answered {status}{message}.", wait_seconds=wait, **where
        )
    return _refused(response, name, message, where) if is_api else _refused_file(response, where)


def _refused_file(response: Response, where: dict[str, Any]) -> ScraperError:
    match response.status:
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE | HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS:
            return NotFound(
                f"{response.where} answered {response.status}: the file is gone.", **where
            )
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return NotAuthorised(
                f"{response.where} answered {response.status}: the file host refuses this file, or "
                "this client.",
                **where,
            )
    return OddAnswer(f"{response.where} answered {response.status}, which no file has.", **where)


def _refused(response: Response, name: str, message: str, where: dict[str, Any]) -> ScraperError:
    match response.status:
        case HTTPStatus.NOT_FOUND:
            return NotFound(
                f"{response.where} answered 404{message}: there is no such thing.", **where
            )
        case HTTPStatus.UNAUTHORIZED:
            return NotAuthorised(
                f"{response.where} answered 401{message}: the board does not know the account. Check "
                "PERSONAE_LOGIN and PERSONAE_API_KEY, or unset both.",
                **where,
            )
        case HTTPStatus.FORBIDDEN:
            return NotAuthorised(
                f"{response.where} answered 403{message}: the account may not do this, or the address "
                "is banned. Check the rights of the API key with the board.",
                **where,
            )
        case HTTPStatus.GONE:
            return PageLimitReached(
                f"{response.where} answered 410{message}: a search has a limited number of pages. Ask "
                "for less at once.",
                **where,
            )
        case HTTPStatus.UNPROCESSABLE_ENTITY if "TagLimit" in name:
            return TagLimitReached(
                f"{response.where} answered 422{message}: the account may use fewer terms in one "
                "search. Shorten `listing.terms`; ratings, status and sizes are free.",
                **where,
            )
    return RequestRefused(
        f"{response.where} answered {response.status}{message}. Repeating the request will not help. Check "
        "`listing.terms` and the address of the site.",
        **where,
    )


def _challenged(response: Response) -> NotAuthorised:
    kind = Challenged if response.is_stop_signal else NotAuthorised
    return kind(
        f"{response.where} answered {response.status} with an HTML page: a challenge. {_CHALLENGES}",
        url=response.url,
        status=response.status,
    )


def _error(response: Response) -> tuple[str, str]:
    """Returns class and message of a JSON error body; both are empty when there is none."""
    if response.kind != "application/json":
        return "", ""
    try:
        body = json.loads(response.body)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(body, dict):
        return "", ""
    message = quoted(str(body.get("message") or ""))
    return str(body.get("error") or ""), f" ({message})" if message else ""


def shown(url: str) -> str:
    """Returns an address for an error message: readable, one short line."""
    return quoted(unquote_plus(url))


def quoted(text: str) -> str:
    """Returns text of the board for an error message: one short line, no control characters."""
    line = "".join(letter if letter.isprintable() else " " for letter in text).strip()
    return line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]}…"
