"""
The checks before a request is answered: User-Agent, account and rate limit; and the request log.

The checks follow Danbooru's proxy and application: a challenge for some User-Agents
(https://danbooru.donmai.us/forum_topics/23284), credentials and a rate limit for each client
(https://danbooru.donmai.us/wiki_pages/help:api). Nothing here waits or reads a clock: times are
arguments.
"""

import base64
import binascii
import re
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

_REFUSED_AGENTS = re.compile(
    r"Mozilla/|\s*$|python-requests/\S*$|Python/\S+ aiohttp/\S+$|Python-urllib/\S*$|python-httpx/\S*$",
    re.IGNORECASE,
)
CLEARANCE = "cf_clearance"
"""Cookie of a browser that has run the script of the challenge."""
CHALLENGE = f"<script>document.cookie = '{CLEARANCE}=1; path=/; SameSite=Strict'; location.reload()</script>"
"""What a browser runs and an HTTP client does not."""
_ENTRIES = 200_000
"""Newest requests that the log keeps in full, so that its memory stays bounded."""
_ROUNDING = 1e-9
"""Error that the sum of a full queue may have without a refusal."""


@dataclass(frozen=True, slots=True)
class AccountLevel:
    """The limits of an account (`app/models/user.rb` of https://github.com/danbooru/danbooru)."""

    name: str
    terms: int | None
    """Largest number of counted terms of a search; None means no limit."""
    pages: int
    """Last numbered page of a search."""
    sees_restricted: bool = False
    """Whether the account sees the files of posts for Gold members."""


ANONYMOUS = AccountLevel("anonymous", 2, 1_000)
"""The level of a request without credentials."""
_MEMBER = AccountLevel("member", 2, 1_000)
_GOLD = AccountLevel("gold", 6, 5_000, sees_restricted=True)

ACCOUNTS = {
    ("demo_member", "demo-member-key"): _MEMBER,
    ("demo_gold", "demo-gold-key"): _GOLD,
}
"""(Login, API key) to level, of the two accounts that every demo board has."""


class BadCredentials(Exception):
    """The login or the API key is absent or wrong."""


def is_challenged(user_agent: str, *, clearance: str | None = None) -> bool:
    """
    Returns whether a User-Agent is empty, a browser's, or the default of an HTTP library.

    A browser passes after it has run the script of the challenge, which sets the cookie `clearance`.
    """
    return clearance is None and _REFUSED_AGENTS.match(user_agent) is not None


def level(headers: Mapping[str, str], query: Mapping[str, str]) -> AccountLevel:
    """
    Returns the level of a request's account, anonymous without credentials.

    Args:
        headers: Request headers. HTTP Basic (RFC 7617) has precedence over the query.
        query: URL parameters, among them `login` and `api_key`.

    Raises:
        BadCredentials: One of login and API key is absent, or they are wrong.
    """
    scheme, _, encoded = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            login, _, key = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise BadCredentials from error
    else:
        login, key = query.get("login", ""), query.get("api_key", "")
        if not login and not key:
            return ANONYMOUS
    account = ACCOUNTS.get((login, key))
    if account is None:
        raise BadCredentials
    return account


class LeakyBucket:
    """
    A leaky bucket with a queue for each client, as nginx's `limit_req` without `nodelay`.

    With r requests per second, the k-th request ahead of its time waits k/r seconds. A request is
    refused if more than `burst` requests would wait. See
    https://nginx.org/en/docs/http/ngx_http_limit_req_module.html.
    """

    def __init__(self, *, rate: float, burst: int) -> None:
        """
        Creates a bucket that no client has used.

        Args:
            rate: Requests per second of each client; 0 means no limit.
            burst: Requests of a client that may wait.
        """
        self._rate = rate
        self._burst = burst
        self._state: dict[str, tuple[float, float]] = {}

    def delay(self, address: str, now: float) -> float | None:
        """
        Returns the seconds that a request must wait, or None if it is refused.

        Args:
            address: Address of the client.
            now: Time in seconds, from any origin; later calls have later times.
        """
        if self._rate <= 0:
            return 0.0
        excess, last = self._state.get(address, (-1.0, now))
        excess = max(0.0, excess - self._rate * (now - last) + 1.0)
        if excess > self._burst + _ROUNDING:
            return None
        self._state[address] = (excess, now)
        return excess / self._rate


@dataclass(slots=True)
class ClientCounts:
    """The requests of one kind from one client address."""

    requests: int = 0
    running: int = 0
    """Requests that have no answer yet."""
    most_at_once: int = 0
    """Largest value of `running` so far."""
    most_per_second: int = 0
    """Largest number of requests within any second."""
    _recent: deque[float] = field(default_factory=deque)

    def start(self, at: float) -> None:
        """Counts a request that begins at a time, in seconds; later calls have later times."""
        self.requests += 1
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        self._recent.append(at)
        while at - self._recent[0] >= 1.0:
            self._recent.popleft()
        self.most_per_second = max(self.most_per_second, len(self._recent))


@dataclass(slots=True)
class RequestLog:
    """The requests received: counts of all of them, and the newest in full."""

    entries: deque[tuple[float, str, str, int]] = field(
        default_factory=lambda: deque(maxlen=_ENTRIES)
    )
    """(Start in seconds of a monotonic clock, kind, path with query, HTTP status)."""
    by_kind: Counter[str] = field(default_factory=Counter)
    """Requests by kind: api or cdn."""
    by_status: Counter[int] = field(default_factory=Counter)
    """Answers by HTTP status; 0 if the connection broke."""
    running: Counter[str] = field(default_factory=Counter)
    """Requests by kind that have no answer yet."""
    most_at_once: Counter[str] = field(default_factory=Counter)
    """Largest value of `running` so far, by kind."""
    agents: Counter[str] = field(default_factory=Counter)
    """Requests by User-Agent."""
    clients: dict[tuple[str, str], ClientCounts] = field(default_factory=dict)
    """(Client address, kind) to the counts of its requests."""
    bytes_sent: int = 0
    """Bytes of all answers' bodies."""

    def start(self, kind: str, agent: str, *, client: str, at: float) -> None:
        """
        Counts a request that begins.

        Args:
            kind: api or cdn.
            agent: User-Agent of the request.
            client: Address of the client.
            at: Time of the request, in seconds of a monotonic clock.
        """
        self.clients.setdefault((client, kind), ClientCounts()).start(at)
        self.by_kind[kind] += 1
        self.agents[agent] += 1
        self.running[kind] += 1
        self.most_at_once[kind] = max(self.most_at_once[kind], self.running[kind])

    def end(self, kind: str, path: str, *, client: str, at: float, status: int, sent: int) -> None:
        """
        Records the answer to a request that `start` counted.

        Args:
            kind: api or cdn.
            path: Path with query.
            client: Address of the client.
            at: Time of the request, in seconds of a monotonic clock.
            status: HTTP status of the answer.
            sent: Bytes of the answer's body.
        """
        self.running[kind] -= 1
        self.clients[client, kind].running -= 1
        self.by_status[status] += 1
        self.bytes_sent += sent
        self.entries.append((round(at, 4), kind, path, status))

    def most_per_second(self, kind: str) -> int:
        """Returns the largest number of requests of a kind within any second."""
        times = sorted(entry[0] for entry in self.entries if entry[1] == kind)
        most, first = 0, 0
        for last, time in enumerate(times):
            while time - times[first] >= 1.0:
                first += 1
            most = max(most, last - first + 1)
        return most

    def summary(self, *, entries: bool) -> dict[str, object]:
        """Returns the log as JSON; `entries` adds the newest requests in full."""
        kinds = sorted(self.by_kind)
        return {
            "requests": dict(self.by_kind),
            "statuses": {str(status): count for status, count in sorted(self.by_status.items())},
            "most_at_once": dict(self.most_at_once),
            "most_per_second": {kind: self.most_per_second(kind) for kind in kinds},
            "agents": dict(self.agents),
            "clients": [
                {
                    "address": address,
                    "kind": kind,
                    "requests": counts.requests,
                    "most_at_once": counts.most_at_once,
                    "most_per_second": counts.most_per_second,
                }
                for (address, kind), counts in sorted(self.clients.items())
            ],
            "bytes_sent": self.bytes_sent,
            **({"entries": [list(entry) for entry in self.entries]} if entries else {}),
        }
