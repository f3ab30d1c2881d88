"""
The requests to one host that all processes of this user share: one rate, one pause, one day's count.

The state is a small file for each host in `$PERSONAE_STATE`, by default
`$XDG_STATE_HOME/personae` or `~/.local/state/personae`. Every request locks, reads and writes it,
which takes 15 µs. Nothing in the file can stall a run for longer than an interval or the longest
obeyed pause, whatever the clock did since it was written.
"""

import contextlib
import fcntl
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias, get_args
from urllib.parse import quote

from scraper.errors import DailyBudgetSpent

_log = logging.getLogger(__name__)

Kind: TypeAlias = Literal["api", "files"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_BYTES = 512
_DAY_SECONDS = 86_400
# An interval of another process counts up to a minute, which is what repeated refusals lead to.
_LONGEST_INTERVAL = 60.0
# Where the last request is not known, it counts as sent now, at the usual rate of a public board.
_UNKNOWN_INTERVAL = 1.0
# A lock is held for microseconds, unless its holder is stopped.
_LOCK_SECONDS = 1.0


@dataclass(slots=True)
class _Departures:
    """Of one kind of request; times are seconds since 1970."""

    left_at: float = 0.0
    interval: float = 0.0
    """Seconds after `left_at` that no request may leave."""
    paused_at: float = 0.0
    pause_seconds: float = 0.0

    def seconds_left(self, now: float, *, own_interval: float, most_pause: float) -> float:
        """Returns how long no request may leave; a moment in the future, of another clock, is now."""
        self.left_at, self.paused_at = min(self.left_at, now), min(self.paused_at, now)
        interval = min(self.interval, max(own_interval, _LONGEST_INTERVAL))
        pause = min(self.pause_seconds, most_pause)
        return max(self.left_at + interval, self.paused_at + pause) - now


@dataclass(slots=True)
class _HostState:
    day: int = 0
    """UTC days since 1970."""
    requests: int = 0
    """Requests of all kinds on that day."""
    kinds: dict[str, _Departures] = field(
        default_factory=lambda: {kind: _Departures() for kind in KINDS}
    )

    @classmethod
    def read(cls, content: bytes) -> "_HostState":
        """
        Returns the state in `content`; the first one when it is empty.

        Raises:
            ValueError: The content is damaged.
        """
        if not content.strip():
            return cls()
        try:
            values = json.loads(content)
            day, requests = int(values["day"]), int(values["requests"])
            kinds = {kind: [float(number) for number in values[kind]] for kind in KINDS}
            numbers = [number for each in kinds.values() for number in each]
            if len(numbers) != 4 * len(KINDS):
                raise ValueError("numbers are missing")
            if not all(math.isfinite(number) and number >= 0 for number in (requests, *numbers)):
                raise ValueError("a number is negative or not finite")
            return cls(day, requests, {kind: _Departures(*kinds[kind]) for kind in KINDS})
        except (TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error

    def written(self) -> bytes:
        """Returns the content of the file, always of the same length: nothing must be cut off."""
        kinds = {
            kind: [each.left_at, each.interval, each.paused_at, each.pause_seconds]
            for kind, each in self.kinds.items()
        }
        document = {"day": self.day, "requests": self.requests, **kinds}
        return json.dumps(document).encode("ascii").ljust(_BYTES - 1) + b"\n"


def state_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Returns the folder of the states; None where the user has no home."""
    if environment.get("PERSONAE_STATE"):
        return Path(environment["PERSONAE_STATE"])
    try:
        root = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return Path(root) / "personae"


class HostBudget:
    """
    Lets the requests of all processes to one host leave one after the other, and counts a day's.

    A state that cannot be used is replaced by one of this process, with one warning.

    Args:
        host: Name of the host, with its port if it is one of several on this machine.
        folder: Folder of the states; None keeps the state in this process.
        daily_requests: Most requests a UTC day; None for no limit.
        most_pause: Longest obeyed pause in seconds.
        now: Returns the time in seconds since 1970, which all processes share.
    """

    def __init__(
        self,
        host: str,
        folder: Path | None,
        *,
        daily_requests: int | None = None,
        most_pause: float = 900.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._path = None if folder is None else folder / f"{quote(host, safe='')}.json"
        self._daily_requests = daily_requests
        self._most_pause = most_pause
        self._now = now
        self._own = _HostState()
        self._turn = threading.Lock()  # between threads, which share the handle and so its lock
        self._handle: int | None = None

    def take(self, kind: str, interval: float) -> float:
        """
        Lets a request leave, if it may; returns 0 then, and else the seconds until it may.

        Args:
            kind: api or files.
            interval: Seconds after this request that no other of the kind may leave.

        Raises:
            DailyBudgetSpent: The requests of this day are used up.
        """
        with self._locked() as state:
            now = self._now()
            if state.day != (day := int(now // _DAY_SECONDS)):
                state.day, state.requests = day, 0
            if self._daily_requests is not None and state.requests >= self._daily_requests:
                raise self._spent(day, now)
            departures = state.kinds[kind]
            wait = departures.seconds_left(now, own_interval=interval, most_pause=self._most_pause)
            if wait > 0:
                return wait
            departures.left_at, departures.interval = now, interval
            state.requests += 1
            return 0.0

    def pause(self, kind: str, seconds: float) -> None:
        """Lets no request of a kind leave for `seconds` from now, of no process."""
        with self._locked() as state:
            now = self._now()
            departures = state.kinds[kind]
            left = departures.paused_at + departures.pause_seconds - now
            if min(seconds, self._most_pause) > left or departures.paused_at > now:
                departures.paused_at = now
                departures.pause_seconds = min(seconds, self._most_pause)

    def requests_today(self) -> int:
        """Returns the number of requests of all processes on this UTC day."""
        with self._locked() as state:
            return state.requests if state.day == int(self._now() // _DAY_SECONDS) else 0

    def close(self) -> None:
        """Closes the file; the next request opens it again."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        """Closes the file."""
        self.close()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[_HostState]:
        """Yields the state, which no other process reads or writes during the block, and keeps it."""
        with self._turn:
            state = self._read()
            try:
                yield state
            finally:
                self._own = state
                self._write(state)

    def _read(self) -> _HostState:
        """Locks the file and returns its state; that of this process when there is no file."""
        if self._path is None:
            return self._own
        try:
            self._lock(self._path)
            assert self._handle is not None, "locked"  # noqa: S101  # our mistake
            content = os.pread(self._handle, _BYTES, 0)
        except OSError as error:
            self._give_up(error)
            return self._own
        try:
            return _HostState.read(content)
        except ValueError as error:
            _log.warning(
                "The requests of other runs to %s are not known: %s is damaged (%s) and is written "
                "anew.",
                self._host,
                self._path,
                error,
            )
            now = self._now()
            return _HostState(kinds={kind: _Departures(now, _UNKNOWN_INTERVAL) for kind in KINDS})

    def _write(self, state: _HostState) -> None:
        """Writes the state, if there is a file, and unlocks it."""
        if self._handle is None:
            return
        try:
            os.pwrite(self._handle, state.written(), 0)
            fcntl.flock(self._handle, fcntl.LOCK_UN)
        except OSError as error:
            self._give_up(error)

    def _lock(self, path: Path) -> None:
        if self._handle is not None and not os.fstat(self._handle).st_nlink:
            self.close()  # the file was removed: other processes use a new one
        if self._handle is None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._handle = os.open(path, flags, 0o600)
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.0002)
            else:
                return

    def _give_up(self, error: OSError) -> None:
        """Uses a state of this process from now on."""
        _log.warning(
            "The rate limit of %s holds for this run alone: %s cannot be used (%s). Other runs at the "
            "same time add their requests. Set PERSONAE_STATE to a folder that can be written.",
            self._host,
            self._path,
            error.strerror or error,
        )
        with contextlib.suppress(OSError):
            self.close()
        self._path = None

    def _spent(self, day: int, now: float) -> DailyBudgetSpent:
        resumes = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day + 1)
        hours, minutes = divmod(math.ceil((resumes.timestamp() - now) / 60), 60)
        return DailyBudgetSpent(
            f"The {self._daily_requests:,} requests of this day to {self._host} are used up "
            f"(`site.daily_requests`). The next day begins at {resumes:%Y-%m-%d %H:%M} UTC, in "
            f"{hours} h {minutes} min. Run the same command again then. What is finished is kept."
        )
