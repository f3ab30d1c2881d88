"""
What stands before the board: who may come in, how often, and the log of who did.

The rules are those of the site's proxy: challenges by User-Agent, a leaky bucket with a queue.
Nothing here waits or reads a clock; times are arguments.
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
_ENTRIES = 200_000


@dataclass(frozen=True, slots=True)
class AccountLevel:
    """What a caller may do."""

    name: str
    terms: int | None
    """Counted terms of a search."""
    pages: int
    """Last numbered page."""
    sees_restricted: bool = False


ANONYMOUS = AccountLevel("anonymous", 2, 1_000)
_MEMBER = AccountLevel("member", 2, 1_000)
_GOLD = AccountLevel("gold", 6, 5_000, sees_restricted=True)

ACCOUNTS = {
    ("demo_member", "demo-member-key"): _MEMBER,
    ("demo_gold", "demo-gold-key"): _GOLD,
}
"""Login and API key of the two accounts that every demo board has."""


class BadCredentials(Exception):
    """Half of the credentials, or a wrong key."""


def is_challenged(user_agent: str) -> bool:
    """Whether a caller looks like a browser, or like a library nobody gave a name to."""
    return _REFUSED_AGENTS.match(user_agent) is not None


def level(headers: Mapping[str, str], query: Mapping[str, str]) -> AccountLevel:
    """The caller's level; HTTP Basic wins over the query. Raises BadCredentials."""
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
    found = ACCOUNTS.get((login, key))
    if found is None:
        raise BadCredentials
    return found


class LeakyBucket:
    """
    A leaky bucket with a queue, as nginx's `limit_req` without `nodelay`.

    Requests beyond the rate are delayed, and refused once `burst` of them would wait.
    """

    def __init__(self, *, rate: float, burst: int) -> None:
        """`rate` in requests a second; 0 means no limit."""
        self._rate = rate
        self._burst = burst
        self._state: dict[str, tuple[float, float]] = {}

    def delay(self, address: str, now: float) -> float | None:
        """Seconds that a request must wait, or None when it is refused."""
        if self._rate <= 0:
            return 0.0
        excess, last = self._state.get(address, (-1.0, now))
        excess = max(0.0, excess - self._rate * (now - last) + 1.0)
        if excess > self._burst + 1e-9:  # rounding must not cost the last place
            return None
        self._state[address] = (excess, now)
        return excess / self._rate


@dataclass(slots=True)
class RequestLog:
    """Requests seen: totals for tests, and the newest ones in full."""

    entries: deque[tuple[float, str, str, int]] = field(
        default_factory=lambda: deque(maxlen=_ENTRIES)
    )
    """(seconds since the board started, kind, path with query, status)."""
    by_kind: Counter[str] = field(default_factory=Counter)
    by_status: Counter[int] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)
    most_at_once: Counter[str] = field(default_factory=Counter)
    agents: Counter[str] = field(default_factory=Counter)
    bytes_sent: int = 0

    def start(self, kind: str, agent: str) -> None:
        """Notes that a request came in; `kind` is api or cdn."""
        self.by_kind[kind] += 1
        self.agents[agent] += 1
        self.running[kind] += 1
        self.most_at_once[kind] = max(self.most_at_once[kind], self.running[kind])

    def end(self, kind: str, path: str, *, at: float, status: int, sent: int) -> None:
        """Notes how a request that came in at `at` was answered."""
        self.running[kind] -= 1
        self.by_status[status] += 1
        self.bytes_sent += sent
        self.entries.append((round(at, 4), kind, path, status))

    def most_per_second(self, kind: str) -> int:
        """Largest number of requests that came in within any one second."""
        times = sorted(entry[0] for entry in self.entries if entry[1] == kind)
        most, first = 0, 0
        for last, time in enumerate(times):
            while time - times[first] >= 1.0:
                first += 1
            most = max(most, last - first + 1)
        return most

    def summary(self, *, entries: bool) -> dict[str, object]:
        """Everything as JSON; the entries only when asked for."""
        kinds = sorted(self.by_kind)
        return {
            "requests": dict(self.by_kind),
            "statuses": {str(status): count for status, count in sorted(self.by_status.items())},
            "most_at_once": dict(self.most_at_once),
            "most_per_second": {kind: self.most_per_second(kind) for kind in kinds},
            "agents": dict(self.agents),
            "bytes_sent": self.bytes_sent,
            **({"entries": [list(entry) for entry in self.entries]} if entries else {}),
        }
