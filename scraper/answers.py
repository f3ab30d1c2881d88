"""
What an answer of the board means: status, headers and body to a value, or to one of our errors.

Pure functions. They decide whether a request is repeated, skipped or ends the run; the table is
the one of Danbooru's own error classes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_plus

from scraper.errors import (
    ConnectionLost,
    NotAuthorised,
    NotFound,
    PageLimitReached,
    QueryTimedOut,
    RateLimited,
    RequestRefused,
    ScraperError,
    SiteUnavailable,
    TagLimitReached,
    UnexpectedResponse,
)
from scraper.ratelimit import retry_after

_LONGEST_QUOTE = 160


class BrokenJson(ConnectionLost):
    """A body that says it is JSON and is not: most often one that was cut on its way."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, read to its end (an error's body to its first part)."""

    url: str
    status: int
    headers: Mapping[str, str]
    """Looked up without regard to case."""
    body: bytes

    @property
    def where(self) -> str:
        """The address, as a person reads it."""
        return shown(self.url)

    @property
    def kind(self) -> str:
        """The media type, without parameters."""
        return self.headers.get("Content-Type", "").split(";")[0].strip().lower()

    @property
    def is_challenge(self) -> bool:
        """True for the page of a proxy that suspects a robot."""
        return "cf-mitigated" in self.headers or (
            self.kind == "text/html" and self.status == HTTPStatus.FORBIDDEN
        )


def parse(answer: Answer) -> Any:
    """
    Returns the JSON of an answer with status 200.

    Raises:
        NotAuthorised: It is a page for people, so a challenge.
        UnexpectedResponse: It is no JSON by its own account, or JSON beyond reason.
        BrokenJson: It says it is JSON and cannot be parsed.
    """
    if answer.kind == "text/html":
        raise _challenged(answer)
    if answer.kind != "application/json":
        raise UnexpectedResponse(
            f"{answer.where} answered with {quoted(answer.kind) or 'no content type'} instead of "
            "JSON. The address is no Danbooru-style board: check 'site.name'."
        )
    try:
        return json.loads(answer.body)
    except RecursionError as error:
        raise UnexpectedResponse(
            f"{answer.where} answered with JSON nested beyond reason. The board is broken or "
            "hostile: check 'site.name'."
        ) from error
    except ValueError as error:
        raise BrokenJson(
            f"{answer.where} answered with {len(answer.body)} bytes that are no JSON ({error}); "
            "probably they were cut on their way.",
            url=answer.url,
            status=answer.status,
        ) from error


def refusal(answer: Answer, *, is_api: bool, now: datetime) -> ScraperError | None:
    """
    Returns the error that an answer amounts to, or None when it holds what was asked for.

    Args:
        answer: The response; redirects are no matter of this function.
        is_api: Whether the API was asked, or the file host.
        now: The time against which a date in Retry-After counts.
    """
    status = answer.status
    if status == HTTPStatus.OK or answer.is_challenge:
        return _challenged(answer) if answer.is_challenge else None
    wait = retry_after(answer.headers.get("Retry-After"), now=now)
    where: dict[str, Any] = {"url": answer.url, "status": status}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(
            f"{answer.where} answered 429: too many requests.", wait_seconds=wait, **where
        )
    name, message = _error(answer)
    if name == "ActiveRecord::QueryCanceled":
        return QueryTimedOut(
            f"{answer.where} answered {status}: the board's database gave the search up. "
            "Smaller pages may pass (`listing.page_size`).",
            **where,
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED:
        return SiteUnavailable(
            f"{answer.where} answered {status}{message}.", wait_seconds=wait, **where
        )
    if not is_api and status in (HTTPStatus.GONE, HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS):
        return NotFound(f"{answer.where} answered {status}: the file is gone.", **where)
    return _refused(answer, name, message, where)


def _refused(answer: Answer, name: str, message: str, where: dict[str, Any]) -> ScraperError:
    match answer.status:
        case HTTPStatus.NOT_FOUND:
            return NotFound(
                f"{answer.where} answered 404{message}: there is no such thing.", **where
            )
        case HTTPStatus.UNAUTHORIZED:
            return NotAuthorised(
                f"{answer.where} answered 401{message}: the board does not know the account. Check "
                "PERSONAE_LOGIN and PERSONAE_API_KEY, or unset both.",
                **where,
            )
        case HTTPStatus.FORBIDDEN:
            return NotAuthorised(
                f"{answer.where} answered 403{message}: the account may not do this, or the address "
                "is banned. Check the rights of the API key with the board.",
                **where,
            )
        case HTTPStatus.GONE:
            return PageLimitReached(
                f"{answer.where} answered 410{message}: a search has a limited number of pages. Ask "
                "for less at once.",
                **where,
            )
        case HTTPStatus.UNPROCESSABLE_ENTITY if "TagLimit" in name:
            return TagLimitReached(
                f"{answer.where} answered 422{message}: the account may use fewer terms in one "
                "search. Shorten `listing.terms`; ratings, status and sizes are free.",
                **where,
            )
    return RequestRefused(
        f"{answer.where} answered {answer.status}{message}. Repeating it will not help: check "
        "`listing.terms` and the address of the site.",
        **where,
    )


def _challenged(answer: Answer) -> NotAuthorised:
    return NotAuthorised(
        f"{answer.where} answered {answer.status} with a page for people: a challenge. Boards "
        "challenge programs that look like a browser or do not say who runs them, and addresses "
        "that asked too much. Set 'site.contact' to an address where the staff can reach you, "
        "lower the rates, and wait a day; the challenge is not to be worked around.",
        url=answer.url,
        status=answer.status,
    )


def _error(answer: Answer) -> tuple[str, str]:
    """The class and the message of a JSON error body; both empty when there is none."""
    if answer.kind != "application/json":
        return "", ""
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(body, dict):
        return "", ""
    message = quoted(str(body.get("message") or ""))
    return str(body.get("error") or ""), f" ({message})" if message else ""


def shown(url: str) -> str:
    """An address for one of our messages: readable, one short line."""
    return quoted(unquote_plus(url))


def quoted(text: str) -> str:
    """Text of the board for one of our messages: one short line, no control characters."""
    line = "".join(letter if letter.isprintable() else " " for letter in text).strip()
    return line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]}…"
