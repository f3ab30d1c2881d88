"""
Images per second of a whole scrape, as a share of what bare reads of the same files reach.

The limit is a loop of aiohttp that reads every file with as many requests at once, and neither
lists, judges, checks nor writes anything.
"""

import itertools
import statistics
import subprocess
import sys

from benchmarks.shared import board, pairs
from benchmarks.shared.result import Result

BAR = 0.8
_BARE = """
import asyncio, sys
import aiohttp

async def read(session, urls):
    for url in urls:
        async with session.get(url) as answer:
            assert answer.status == 200
            await answer.read()

async def main(urls):
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"User-Agent": "benchmark (local board)"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        urls = iter(urls)
        await asyncio.gather(*(read(session, urls) for _ in range(32)))

asyncio.run(main(sys.stdin.read().split()))
"""


def run() -> Result:
    """Returns the median share."""
    with board.served() as (url, root):
        addresses = "\n".join(board.addresses(url))
        numbers = itertools.count()

        def bare() -> int:
            subprocess.run([sys.executable, "-c", _BARE], input=addresses, text=True, check=True)
            return board.IMAGES

        def ours() -> int:
            return board.scrape(url, root / f"ours{next(numbers)}")

        ratios, rates = pairs.compared(ours, bare)
    return Result(
        value=statistics.median(ratios),
        unit="of the images per second of bare reads",
        bar=f">= {BAR:g}",
        ok=statistics.median(ratios) >= BAR,
        runs=ratios,
        peer="aiohttp, 32 requests at once, nothing but reading",
        details={"images_per_second": rates, "latency_seconds": board.LATENCY_SECONDS},
    )
