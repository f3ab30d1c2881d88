"""
Chooses the requests that faults strike, on a board whose parameters have `faults` or `control`.

A fault strikes a fixed share of addresses, chosen by a hash of seed, kind and path, and only the
first attempts at each address. So equal runs meet equal faults, and a client that tries again
succeeds. What a fault does is in `strikes.py`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from personae.errors import BadParams
from scraper.demo.server.strikes import KINDS, applies

_BURST = 4
"""Requests in a row that a fault 429 strikes."""


@dataclass(slots=True)
class FaultPlan:
    """Chooses the requests that faults strike, and counts the faults."""

    seed: int = 0
    """Random seed of the addresses that are struck."""
    shares: dict[str, float] = field(default_factory=dict)
    """Kind to the share of addresses that it strikes, 0 to 1."""
    attempts: int = 1
    """Failing attempts at one address before an attempt succeeds."""
    committed: Counter[str] = field(default_factory=Counter)
    """Kind to the number of faults committed so far."""
    _tries: Counter[tuple[str, str]] = field(default_factory=Counter)
    _seen: Counter[bool] = field(default_factory=Counter)

    def begin(self, shares: dict[str, float]) -> None:
        """Commits faults of other `shares` from now on, as if no request had come yet."""
        self.shares = shares
        self._tries.clear()
        self._seen.clear()

    def choose(self, path: str, *, is_cdn: bool) -> str | None:
        """
        Returns the kind of the fault that strikes a request, or None.

        Faults of status 429 strike four requests in a row, whatever their address.

        Args:
            path: Path and query of the request.
            is_cdn: Whether the request is for a file. Some kinds strike files only, others never.
        """
        number = self._seen[is_cdn]
        self._seen[is_cdn] += 1
        for kind, share in self.shares.items():
            if not applies(kind, path, is_cdn=is_cdn):
                continue
            if kind in ("too_many", "too_many_retry_after"):
                if self._chance(kind, str(number // _BURST)) < share:
                    return kind
            elif self._tries[kind, path] < self.attempts and self._chance(kind, path) < share:
                self._tries[kind, path] += 1
                return kind
        return None

    def _chance(self, kind: str, name: str) -> float:
        """Returns a number from 0 to 1 that depends on seed, kind and name only."""
        text = f"{self.seed}:{kind}:{name}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) / 2**56


def parse(texts: Iterable[str], *, seed: int = 0, attempts: int = 1) -> FaultPlan:
    """
    Returns the plan of texts `kind=share`; `kind` alone means a share of 1.

    Args:
        texts: The texts, such as `reset=0.05`.
        seed: Random seed of the addresses that are struck.
        attempts: Failing attempts at one address before an attempt succeeds.

    Raises:
        BadParams: A kind is unknown, or a share is not a number from 0 to 1.
    """
    shares = {}
    for text in texts:
        kind, _, share = text.partition("=")
        try:
            shares[kind] = float(share or "1")
        except ValueError:
            shares[kind] = -1.0
        if kind not in KINDS or not 0 <= shares[kind] <= 1:
            raise BadParams(
                f"'demo.faults' has {text!r}: it must be kind=share with a share from 0 to 1. "
                f"Kinds: {', '.join(KINDS)}."
            )
    return FaultPlan(seed=seed, shares=shares, attempts=attempts)
