"""
Images per second of stage `download`, as a share of what bare reads of the same files reach.

The limit is a loop of aiohttp that reads every file with as many requests at once, and neither
checks nor writes anything. Both programs start anew and get the list of files for nothing. The
shares with half as many requests at once, and of a whole scrape, stand in the details.
"""

import itertools
import shutil
import statistics
import subprocess
import sys
from functools import partial
from typing import Any

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
        await asyncio.gather(*(read(session, urls) for _ in range(int(sys.argv[1]))))

asyncio.run(main(sys.stdin.read().split()))
"""


def run() -> Result:
    """Returns the median share."""
    with board.served() as (url, root):
        addresses = "\n".join(board.addresses(url))
        chosen, numbers = root / "chosen", itertools.count()
        board.prepare(chosen)
        board.choose(url, chosen)

        def bare(at_once: int) -> int:
            command = [sys.executable, "-c", _BARE, str(at_once)]
            subprocess.run(command, input=addresses, text=True, check=True)
            return board.IMAGES

        def download(at_once: int) -> int:
            folder = shutil.copytree(chosen, root / f"download{next(numbers)}")
            return board.download(url, folder, workers=at_once)

        def scrape(at_once: int) -> int:
            folder = root / f"scrape{next(numbers)}"
            return board.scrape(url, folder, "--workers", str(at_once))

        shares: dict[str, dict[str, Any]] = {}
        for program, at_once in (
            (download, board.WORKERS),
            (download, 32),
            (scrape, board.WORKERS),
        ):
            ratios, rates = pairs.compared(partial(program, at_once), partial(bare, at_once))
            name = f"{program.__name__}, {at_once} requests at once"
            shares[name] = {"runs": ratios, "images_per_second": rates}
    first, *others = shares.items()
    runs = first[1]["runs"]
    return Result(
        value=statistics.median(runs),
        unit="of the images per second of bare reads",
        bar=f">= {BAR:g}",
        ok=statistics.median(runs) >= BAR,
        runs=runs,
        peer=f"aiohttp, {board.WORKERS} requests at once, nothing but reading",
        details={
            "images_per_second": first[1]["images_per_second"],
            "others": {
                name: {"share": statistics.median(share["runs"]), **share} for name, share in others
            },
            "latency_seconds": board.LATENCY_SECONDS,
        },
    )
