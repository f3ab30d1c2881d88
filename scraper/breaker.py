"""
The circuit breaker of a transfer: distinguishes a fault of the site from faults of single images.

Failures in a row, without an image in between, trip it. Then images that are already stored are
requested again: if one arrives with the same bytes, the site is well, and the failures are those
of the images.
"""

import asyncio
import logging
from collections.abc import Sequence

from scraper.errors import Challenged, NotAuthorised, ScraperError, Unfinished
from scraper.image import sha256
from scraper.ledger import StoredImage
from scraper.transport import Transport

_log = logging.getLogger(__name__)

# A site that refuses a client must not be asked twenty times more.
_MOST_REFUSALS = 3
PROBES = 3
"""Stored images that are requested until one arrives unchanged."""


class Breaker:
    """
    Counts failures, and probes the site when they become many.

    Args:
        client: Requests the probes.
        probes: Stored images; further ones are taken from what arrives.
        most_failures: Failures in a row that trip it.
        max_bytes: Largest accepted probe.
    """

    def __init__(
        self,
        client: Transport,
        probes: Sequence[StoredImage],
        *,
        most_failures: int,
        max_bytes: int,
    ) -> None:
        self.last: ScraperError | None = None
        """The last failure of a request."""
        self.is_open = False
        """True when the site is taken to be at fault: no further request is useful."""
        self._client = client
        self._probes = list(probes)
        self._most_failures = most_failures
        self._max_bytes = max_bytes
        self._failures = self._refusals = 0
        self._probing = asyncio.Lock()

    def note_image(self) -> None:
        """Ends a series of failures: an image has arrived."""
        self._failures = self._refusals = 0

    def add_probe(self, stored: StoredImage) -> None:
        """Takes a stored image as a probe, if there are too few."""
        if len(self._probes) < PROBES:
            self._probes.append(stored)

    def doubt(self) -> None:
        """Lets the next failure trip the breaker, unless an image arrives before it."""
        self._failures = self._most_failures - 1

    async def note_failure(self, error: ScraperError | None = None) -> None:
        """Counts a failed request, or an answer that is no image; probes the site if needed."""
        self.last = error or self.last
        self._failures += 1
        if isinstance(error, NotAuthorised):
            self._refusals += 1
        if self._is_full():
            async with self._probing:
                # An image or a probe may have ended the series while this task waited.
                if self._is_full() and not self.is_open:
                    self.is_open = not await self.is_site_well()

    async def wait_for_probe(self) -> None:
        """Returns when no probe is under way: until then a request might only annoy the site."""
        async with self._probing:
            pass

    @property
    def failures(self) -> int:
        """Failures since the last image or successful probe."""
        return self._failures

    async def is_site_well(self) -> bool:
        """Returns whether a stored image is sent again with the same bytes."""
        for stored in self._probes:
            try:
                payload = await self._client.get_bytes(stored.url, max_bytes=self._max_bytes)
            except (Challenged, Unfinished) as error:
                self.last = error
                return False
            except ScraperError as error:
                _log.info("download: post %d does not arrive again: %s", stored.post_id, error)
                continue
            if sha256(payload) == stored.sha256:
                self._failures = self._refusals = 0
                return True
            _log.info("download: post %d arrives with other bytes than before", stored.post_id)
        return False

    def _is_full(self) -> bool:
        return self._failures >= self._most_failures or self._refusals >= _MOST_REFUSALS
