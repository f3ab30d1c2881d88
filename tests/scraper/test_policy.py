"""Tests the waits after refusals: bounded in total, and forgotten after successful requests."""

import contextlib

import pytest

from scraper.errors import RateLimited, Unfinished
from tests.scraper.network_fixture import FINE, asking, html

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("header", [{}, {"Retry_After": "900"}, {"Retry_After": "0"}])
async def test_only_refusals_end_within_the_hour(header):
    """When every request is refused, the run ends as resumable in less than an hour."""
    async with asking(html(429, **header), is_local=False, rate=1.0) as asked:
        begun = asked.clock.now

        async def many():
            for number in range(10_000):
                with contextlib.suppress(RateLimited):
                    await asked.bytes(f"/{number}.jpg")

        with pytest.raises(Unfinished, match="429") as caught:
            await many()

        assert 3 == caught.value.exit_code
        assert 1800 <= asked.clock.now - begun <= 3600


async def test_rate_recovers_after_a_refusal():
    """After a refusal the rate is halved, and twenty successful requests restore it."""
    async with asking(html(429), FINE) as asked:
        for _ in range(20):
            await asked.json()
        assert 1e6 == asked.client.budget.api.rate
